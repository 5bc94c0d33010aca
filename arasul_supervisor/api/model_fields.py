"""How a model is named in a body or a query: `model`, or Ollama's old key `name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from arasul_supervisor.ollama.names import MAX_NAME_CHARS, check_model_name
from arasul_supervisor.settings.model_names import PORT_PATTERN

# As settings/model_names.py reads them, in the regular expressions of JSON Schema; two dots in a row are in no name.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME_PATTERN: Final = (
    rf"^(?!.*\.\.)(((https?://)?[A-Za-z0-9_][A-Za-z0-9_.-]*(:{PORT_PATTERN})?/)?[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}}/)?"
    rf"{_PART}(:{_PART})?$"
)
_NOT_GIVEN: Final = {"enum": [None, ""]}
NAME_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": _NAME_PATTERN}

# Any value is let in here, so that the sentence about a bad one is the contract's.
ModelName = Annotated[
    Any,
    msgspec.Meta(
        description="A model name: [host[:port]/][namespace/]model[:tag]",
        extra_json_schema={"anyOf": [NAME_SCHEMA, _NOT_GIVEN]},
    ),
]
# For bodies that must name a model by one of the keys.
MUST_NAME_A_MODEL: Final = {
    "anyOf": [
        {"required": [key], "properties": {key: {"type": "string", "minLength": 1}}}
        for key in ("model", "name")
    ]
}


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model by either key; `model` wins."""

    model: ModelName = None
    name: ModelName = None

    @property
    def is_given(self) -> bool:
        """True when either key holds anything."""
        return any(key not in (None, "") for key in (self.model, self.name))

    def checked_name(self) -> str:
        """The name.

        :raises BadInput: none is given, or one that is given is no model name
        """
        given = [check_model_name(key) for key in (self.model, self.name) if key not in (None, "")]
        return given[0] if given else check_model_name(None)
