"""Guards "a poison model is quarantined with a clear reason": under which names, and what is told where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.healing.aftermath.poison import Conviction
from arasul_supervisor.healing.aftermath.quarantine import Quarantine
from arasul_supervisor.healing.aftermath.sentencing import Sentencing
from arasul_supervisor.healing.looking.loaded_models import Weights
from arasul_supervisor.model_store.reader import StoreUnread
from tests.api.raw import eventually
from tests.unit.healing_desk import Desk, StubStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOUND = Conviction("sha256:a", 2, "at noon while it was being loaded (exit code 2) and at one (exit code 2)")


class Court(Desk):
    """One who sentences, over a store that says what the test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.store = StubStore(
            Weights({name: frozenset({"sha256:a"}) for name in ("b:latest", "a:latest")}, is_whole=True)
        )
        self.quarantine = Quarantine(Path("/nonexistent/quarantine.json"), self.log)
        self.sentencing = Sentencing(
            self.quarantine,
            self.book,
            store=self.store,  # type: ignore[arg-type]  # a stand-in
            clock=self.clock,
            log=self.log,
        )

    async def sentence(self) -> None:
        """Until it is written down."""
        self.sentencing.sentence(FOUND, generation=3)
        await eventually(lambda: bool(self.incidents))


@pytest.fixture
async def court() -> AsyncIterator[Court]:
    opened = Court()
    yield opened
    await opened.sentencing.close()
    await opened.quarantine.close()
    await opened.book.settle()


async def test_every_name_of_the_weights_is_quarantined_with_the_reason(court: Court) -> None:
    await court.sentence()

    reason = f"a:latest, b:latest made Ollama crash 2 times within an hour: {FOUND.times}."
    assert [(one.name, one.reason) for one in court.quarantine.entries()] == [
        ("a:latest", reason),
        ("b:latest", reason),
    ]


async def test_the_incident_says_what_lifts_it(court: Court) -> None:
    await court.sentence()

    assert (court.only.kind, court.only.result, court.only.model) == (
        "model_quarantined",
        "noted",
        "a:latest",
    )
    assert "`arasul-supervisor quarantine lift a:latest`" in court.only.detail


async def test_weights_that_are_not_installed_any_more_leave_nothing_to_quarantine(court: Court) -> None:
    court.store.answer = Weights({"c:latest": frozenset({"sha256:c"})}, is_whole=True)
    await court.sentence()

    assert (court.quarantine.entries(), court.only.result) == ((), "noted")
    assert court.only.detail == "It is not installed any more, so that nothing is quarantined."


async def test_a_store_that_does_not_answer_is_told_and_quarantines_nothing(court: Court) -> None:
    court.store.answer = StoreUnread("The folder did not answer within 5 s.")
    await court.sentence()

    assert (court.quarantine.entries(), court.only.result) == ((), "failed")
    assert court.only.detail.endswith("The folder did not answer within 5 s.")
    assert len(court.told("quarantine_failed")) == 1
