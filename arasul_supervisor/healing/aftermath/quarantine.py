"""The models that killed the engine, and are kept from it until a person lifts that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from arasul_supervisor.healing.incidents.state_file import DISK_S, BackgroundWriter, reason_of
from arasul_supervisor.ollama.names import canonical
from arasul_supervisor.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from arasul_supervisor.event_log import EventLog

_VERSION: Final = 1
_UNREADABLE: Final = (OSError, UnicodeDecodeError, msgspec.MsgspecError, RecursionError)


@dataclass(frozen=True, slots=True)
class QuarantinedModel:
    """One model. `reason` is a sentence; `crashes` it is said to have caused; `since_at` in epoch seconds."""

    name: str
    reason: str
    crashes: int
    since_at: float


@dataclass(frozen=True, slots=True)
class _Content:
    version: int
    quarantined: tuple[QuarantinedModel, ...]


class Quarantine:
    """The one owner of the list; names are compared as Ollama compares them. Nothing here waits for the disk."""

    def __init__(self, path: Path, log: EventLog) -> None:
        self._path, self._log = path, log
        self._by_name: dict[str, QuarantinedModel] = {}  # by canonical name, oldest first
        self._writer = BackgroundWriter("quarantine", most=1, tell=self._tell_unwritten)
        self._is_read = False

    async def restore(self) -> None:
        """Take up what earlier lives left. Nothing is written before, for it would replace that."""
        try:
            found = await self._writer.read(lambda: _models_in(self._path))
        except _UNREADABLE as error:
            self._tell_unread(f"cannot be read: {reason_of(error)}")
            found = ()
        if found is None:
            self._tell_unread(f"was not read within {DISK_S:g} s, and is left as it is")
            return
        self._is_read = True
        earlier = {canonical(model.name): model for model in found}
        has_news = bool(self._by_name)
        self._by_name = {**earlier, **self._by_name}
        if has_news:
            self._write()

    async def close(self) -> None:
        """Write what is not on disk yet, within 0.5 s."""
        await self._writer.close()

    def entries(self) -> tuple[QuarantinedModel, ...]:
        """All of them, oldest first."""
        return tuple(self._by_name.values())

    def reason_for(self, name: str) -> str | None:
        """Why this model is quarantined, as a sentence; None: it is not."""
        model = self._by_name.get(canonical(name))
        return model.reason if model else None

    def add(self, name: str, reason: str, *, crashes: int, at: float) -> None:
        """Quarantine a model, or give the reason anew; it stays as long as it is there.

        :param reason: one sentence
        :param crashes: how many it is said to have caused
        :param at: epoch seconds
        """
        known = self._by_name.get(canonical(name))
        since_at = known.since_at if known else at
        self._by_name[canonical(name)] = QuarantinedModel(name, reason, crashes, since_at)
        self._write()
        self._log.warning("model_quarantined", model=name, reason=reason, crashes=crashes)

    def lift(self, name: str) -> bool:
        """Let the model be used again; False when it was not quarantined."""
        model = self._by_name.pop(canonical(name), None)
        if model is None:
            return False
        self._write()
        self._log.info("quarantine_lifted", model=model.name, reason=model.reason)
        return True

    def _write(self) -> None:
        if not self._is_read:
            return
        content = msgspec.json.encode(_Content(_VERSION, self.entries()))
        self._writer.put("", lambda: write_whole(self._path, content))

    def _tell_unread(self, trouble: str) -> None:
        self._log.warning(
            "quarantine_unread",
            path=str(self._path),
            sentence=f"{self._path} {trouble}; no model is quarantined until one kills the engine again.",
        )

    def _tell_unwritten(self, trouble: str) -> None:
        self._log.warning(
            "quarantine_unwritten",
            path=str(self._path),
            sentence=f"{self._path} {trouble}; what is quarantined or lifted now does not outlive the daemon.",
        )


def _models_in(path: Path) -> tuple[QuarantinedModel, ...]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    return msgspec.json.decode(content, type=_Content).quarantined
