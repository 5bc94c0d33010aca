"""What is seen of a running generation between its events: heartbeats, a SIGSTOP, runners lost for want of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision import exits
from arasul_supervisor.supervision.oom import OomCounter, offer_to_oom_killer
from arasul_supervisor.supervision.runners import descendants, has_ended, living_names, newest_pid
from arasul_supervisor.supervision.snapshot import RunnerLoss, State

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.supervision.board import Board
    from arasul_supervisor.supervision.generation import Beat, Generation

_BEATS_TO_DIE: Final = 2
"""The kernel counts a kill before it sends the signal: at the first look the victim may not have begun to exit."""
_BEATS_TO_LOOK: Final = 2
"""How often the runners are listed at most: 0.6 ms for an engine and a runner of 30 threads each."""


class VitalSigns:
    """Puts them into the snapshot. Works for the engine's owner, in its turn."""

    def __init__(self, *, board: Board, clock: Clock, log: EventLog) -> None:
        self._board, self._clock, self._log = board, clock, log
        self._counter = OomCounter()
        self._runners: dict[int, str] = {}
        self._newest_pid: int | None = None  # when they were listed
        self._unexplained_kills = self._beats_left = self._beats = 0

    def note_spawn(self) -> None:
        """A generation begins: what the kernel killed before was none of its processes."""
        self._counter.rise()
        self._runners, self._newest_pid, self._unexplained_kills = {}, None, 0
        self._board.change(runner_loss=None)

    def note_ready(self, generation: Generation) -> None:
        """A generation answers. Its later children inherit the score; below a wrapper script it is a child itself."""
        engine_pid = generation.child.pid
        for pid in (engine_pid, *descendants(engine_pid)):
            try:
                offer_to_oom_killer(pid)
            except ProcessLookupError:  # a helper of its start that has ended
                continue
            except OSError as error:
                self._log.warning("oom_score_unchanged", pid=pid, error=str(error))

    def note(self, beat: Beat, current: Generation | None) -> None:
        """Take a heartbeat in, and look for what it does not tell."""
        seen = self._board.snapshot
        if beat.generation != seen.generation or seen.state is not State.RUNNING or current is None:
            return
        if beat.is_answered:
            self._board.change(answered_mono=self._clock.mono(), missed_beats=0, is_frozen=False)
        else:
            self._board.change(missed_beats=seen.missed_beats + 1)
            self.look_whether_frozen(current)
        if seen.missed_beats >= 3 and beat.is_answered:
            self._log.warning("engine_answers_again", pid=seen.pid)
        elif seen.missed_beats == 2 and not beat.is_answered:
            self._log.warning("engine_silent", pid=seen.pid, missed_beats=3)
        self._look_for_lost_runners(current.child.pid)

    def look_whether_frozen(self, current: Generation | None) -> None:
        """See whether the engine was stopped (SIGSTOP) or goes on."""
        seen = self._board.snapshot
        if current is None or seen.state is not State.RUNNING:
            return
        is_frozen = current.child.is_stopped()
        if is_frozen != seen.is_frozen:
            self._log.warning("engine_frozen" if is_frozen else "engine_thawed", pid=seen.pid)
            self._board.change(is_frozen=is_frozen)

    def take_oom_kills(self) -> int:
        """How many processes the kernel has ended for want of memory that nobody has explained yet."""
        kills, self._unexplained_kills = self._unexplained_kills + self._counter.rise(), 0
        return kills

    def close(self) -> None:
        """Give the counter's file back."""
        self._counter.close()

    def _look_for_lost_runners(self, engine_pid: int) -> None:
        risen = self._counter.rise()
        self._beats += 1
        if not risen and not self._unexplained_kills and not self._is_list_old():
            return
        self._newest_pid = newest_pid()  # before the list: what begins meanwhile is for the next one
        living = living_names(engine_pid)
        gone = {pid: name for pid, name in self._runners.items() if pid not in living}
        self._runners = living
        if risen:
            self._unexplained_kills += risen
            self._beats_left = _BEATS_TO_DIE
        if not self._unexplained_kills:
            return
        if gone:
            self._tell_loss(*next(iter(gone.items())))
        elif self._beats_left == 0:
            if self._counter.is_ours_alone():
                self._tell_loss(None, None)
            self._unexplained_kills = 0
        self._beats_left -= 1

    def _is_list_old(self) -> bool:
        """True at every second beat, if a process may have begun since the runners were listed, or one has ended."""
        if self._beats % _BEATS_TO_LOOK:
            return False
        newest = newest_pid()
        return newest is None or newest != self._newest_pid or any(map(has_ended, self._runners))

    def _tell_loss(self, pid: int | None, name: str | None) -> None:
        sentence = exits.runner_oom_killed(name, is_certain=not self._counter.is_for_the_box)
        self._log.error("runner_oom_killed", pid=pid, program=name, reason=sentence)
        kills = self._board.snapshot.oom_kills + self._unexplained_kills
        loss = RunnerLoss(sentence, at=self._clock.wall(), mono=self._clock.mono())
        self._board.change(runner_loss=loss, oom_kills=kills)
        self._unexplained_kills = 0
