"""Each setting for people: its value, where that came from, and what it does to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arasul_supervisor.settings.bind import Bind
from arasul_supervisor.settings.fields import FIELDS, Field
from arasul_supervisor.settings.load import given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arasul_supervisor.settings.effective import Settings


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One effective setting. `engine` is what the engine gets for it: `OLLAMA_CONTEXT_LENGTH=8192`."""

    variable: str
    value: str | None
    origin: str
    effect: str
    engine: str | None


def describe(settings: Settings, environ: Mapping[str, str]) -> list[SettingRow]:
    """A row for each setting, in the order of the table."""
    return [_row(field, settings, environ) for field in FIELDS]


def _row(field: Field, settings: Settings, environ: Mapping[str, str]) -> SettingRow:
    value = _value_of(field, settings)
    shown = None if value is None else field.kind.show(value) or None
    effect, engine = field.effect, None
    if field.engine_variable and shown is not None:
        engine = f"{field.engine_variable}={shown}"
    if engine and field.engine_variable != field.variable and given(environ, str(field.engine_variable)):
        effect = f"{effect}; without effect, since {field.engine_variable} is set in the environment"
        engine = None
    return SettingRow(field.variable, shown, settings.origin_of[field.variable], effect, engine)


def _value_of(field: Field, settings: Settings) -> Any:  # Any: as in the table
    if field.attribute == "engine_bind":
        return Bind(settings.engine_host, settings.engine_port)
    return getattr(settings, field.attribute)
