"""What was asked for, and what an earlier life of the daemon knew of it: values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullOrder:
    """What was asked for: `model` under the asked name, by the tag `real` (the same unless it is an alias)."""

    id: str
    model: str
    real: str
    is_insecure: bool
    created_at: float

    @property
    def is_alias(self) -> bool:
        """True when the model is pulled under another name than the asked one."""
        return self.real != self.model


@dataclass(frozen=True, slots=True)
class JobFigures:
    """How far a pull is, in bytes; what an earlier life of the daemon knew holds until more is known."""

    total: int | None = None
    completed: int = 0
    layers: int | None = None
    digests: tuple[str, ...] = ()
