"""From the environment to `Settings`: every fault is collected before one is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from arasul_supervisor.settings.bind import Bind, binds_overlap
from arasul_supervisor.settings.effective import Settings, SettingsError
from arasul_supervisor.settings.fields import FIELDS, OTHER_KNOWN_VARIABLES, Field
from arasul_supervisor.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OUR_PREFIXES: Final = ("ARASUL_", "LLM_")


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The effective settings. Looks at files where a value names one, and creates nothing.

    :raises SettingsError: with one sentence for each wrong variable
    """
    # Any: the kinds of the table decide the types; a test holds them against Settings
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    for field in FIELDS:
        try:
            values[field.attribute], origins[field.variable] = _read(field, environ)
        except ValueError as refusal:
            problems.append(_problem(field, given(environ, field.variable), str(refusal)))

    problems.extend(_contradictions(values))
    if problems:
        raise SettingsError(problems)
    bind: Bind = values.pop("engine_bind")
    return Settings(engine_host=bind.host, engine_port=bind.port, origin_of=origins, **values)


def warnings_for(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each variable that looks like ours and is not, with the nearest known name."""
    known = [field.variable for field in FIELDS] + list(OTHER_KNOWN_VARIABLES)
    strangers = sorted(
        name
        for name in environ
        if name.startswith(_OUR_PREFIXES) and name not in known and given(environ, name)
    )
    return tuple(_stranger(name, known) for name in strangers)


def given(environ: Mapping[str, str], variable: str) -> str | None:
    """What the user set, without the blanks and quotes around it, as Ollama reads its own; None for nothing."""
    return environ.get(variable, "").strip().strip("\"'").strip() or None


def _read(field: Field, environ: Mapping[str, str]) -> tuple[object, str]:
    text = given(environ, field.variable)
    if text is not None:
        return field.kind.read(text), "environment"
    if callable(field.default):
        return field.default(environ)
    return None if field.default is None else field.kind.read(field.default), "default"


def _problem(field: Field, text: str | None, reason: str) -> str:
    usual = field.default if isinstance(field.default, str) and field.default else field.kind.example
    example = f"for example {field.variable}={usual}"
    if text is None:
        return f"{field.variable} {reason}: give {field.kind.allowed}, {example}."
    because = f", but {reason}" if reason else ""
    return f"{field.variable} is {quoted(text)}{because}: allowed is {field.kind.allowed}, {example}."


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong only together; a value that is wrong by itself is not there to be compared."""
    bind, host, port = values.get("engine_bind"), values.get("host"), values.get("port")
    if bind and host and port == bind.port and binds_overlap(host, bind.host):
        yield (
            f"ARASUL_PORT is {port}, but the engine listens on {bind} (OLLAMA_HOST): "
            "the two ports must differ, for example ARASUL_PORT=11436."
        )


def _stranger(name: str, known: list[str]) -> str:
    import difflib  # only here: a start without slips does not pay for it

    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "`arasul-supervisor config` lists all settings."
    return f"{name} is no setting and is ignored; {hint}"
