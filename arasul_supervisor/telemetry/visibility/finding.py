"""The outcome of one check: what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
SKIP: Final = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `skip`: the check does not apply here, or could not see; `seen` says which."""

    status: str
    subject: str
    seen: str
    advice: str = ""
