"""How a model is named in a body or a query: `model`, or Ollama's old key `name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from arasul_supervisor.ollama.names import check_model_name

# Any value is let in here, so that the sentence about a bad one is the contract's.
ModelName = Annotated[
    Any,
    msgspec.Meta(
        description="A model name: [host[:port]/][namespace/]model[:tag]",
        extra_json_schema={"type": ["string", "null"], "maxLength": 255},
    ),
]


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model by either key; `model` wins."""

    model: ModelName = None
    name: ModelName = None

    @property
    def is_given(self) -> bool:
        """True when either key holds anything."""
        return self.model not in (None, "") or self.name not in (None, "")

    def checked_name(self) -> str:
        """The name.

        :raises BadInput: none is given, or it is no model name
        """
        return check_model_name(self.model if self.model not in (None, "") else self.name)
