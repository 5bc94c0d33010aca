"""`/api/process`: the engine's process, and start, stop and restart by an operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.api.answers import Reply
from arasul_supervisor.api.bounds import bounded
from arasul_supervisor.api.process_view import ProcessView, process_view
from arasul_supervisor.api.routes import Route
from arasul_supervisor.errors import ArasulError
from arasul_supervisor.supervision.snapshot import State, why_down

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arasul_supervisor.api.routes import Call
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.settings import Settings
    from arasul_supervisor.supervision.engine import Engine
    from arasul_supervisor.supervision.snapshot import Snapshot

MARGIN_S: Final = 2.0


class NotSettled(ArasulError):
    """The engine has not settled in time; GET /api/process says how it goes on."""

    code, status = "engine_silent", 504


class DidNotStart(ArasulError):
    """Ollama did not start."""

    code, status = "engine_down", 503


class DidNotStop(ArasulError):
    """Ollama did not end."""

    code, status = "unkillable", 503


@dataclass(frozen=True, slots=True)
class WaitQuery:
    """`wait=false`: answer 202 at once and let it happen."""

    wait: bool = True


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator may ask for, how long it may take, and which state shows that it worked."""

    word: str
    ask: Callable[[], None]
    do: Callable[[], Awaitable[Snapshot]]
    bound_s: float
    goal: State
    failure: type[ArasulError]


class Process:
    """Posts what the operator wants and waits for what comes of it. Doing what is already so is a 200."""

    def __init__(self, settings: Settings, engine: Engine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        start_s = settings.startup_timeout_s + MARGIN_S
        stop_s = settings.stop_timeout_s + MARGIN_S
        self._commands = (
            Command("start", engine.ask_start, engine.start, start_s, State.RUNNING, DidNotStart),
            Command("stop", engine.ask_stop, engine.stop, stop_s, State.STOPPED, DidNotStop),
            Command(
                "restart", engine.ask_restart, engine.restart, start_s + stop_s, State.RUNNING, DidNotStart
            ),
        )

    def routes(self) -> tuple[Route, ...]:
        """One look and three commands."""
        look = Route("GET", "/api/process", self.look, "The engine's process", {200: ProcessView})
        return (look, *(self._route(command) for command in self._commands))

    def look(self, call: Call) -> Reply:
        """The process at this instant."""
        return Reply(self._view())

    def _route(self, command: Command) -> Route:
        return Route(
            "POST",
            f"/api/process/{command.word}",
            lambda call: self._carry_out(command, call),
            f"{command.word.capitalize()} the engine and wait until it has settled",
            {200: ProcessView, 202: ProcessView},
            query=WaitQuery,
            errors=(command.failure, NotSettled),
        )

    async def _carry_out(self, command: Command, call: Call) -> Reply:
        if not call.query_as(WaitQuery).wait:
            command.ask()
            return Reply(self._view(), 202)
        settled = await bounded(command.do(), bound_s=command.bound_s, late=lambda: self._late(command))
        if settled.state is not command.goal:
            raise command.failure(why_down(settled), fields=asdict(self._view()))
        return Reply(self._view())

    def _late(self, command: Command) -> ArasulError:
        snapshot = self._engine.snapshot
        return NotSettled(
            f"After {command.bound_s:.0f} s of '{command.word}' the engine is {snapshot.state.value}.",
            hint="It goes on; GET /api/process says how.",
            fields=asdict(self._view()),
        )

    def _view(self) -> ProcessView:
        return process_view(self._engine.snapshot, self._clock.mono())
