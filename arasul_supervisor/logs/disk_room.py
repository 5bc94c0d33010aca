"""Whether the disk of the raw log has room for what the engine wants to write.

The engine goes on when its writes fail (Ollama ignores errors of its log), so nobody but us can notice that its lines
are lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from arasul_supervisor.clock import Clock
    from arasul_supervisor.logs.spool import SpoolReader

LOOK_EVERY_S: Final = 1.0
LOOK_AT_REST_EVERY_S: Final = 5.0  # nothing has been written since a look that found room
FULL_BELOW_BYTES: Final = 64 * 1024  # the last blocks are hard to get on some file systems
AGAIN_FROM_BYTES: Final = 1024 * 1024  # apart from the other limit, so that it does not flap


class DiskRoom:
    """Remembers whether the disk is full: looked at once a second while the log grows or nothing has room, more seldom
    while it rests, and where the engine left a line unended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_mono = float("-inf")
        self._has_looked_since = False
        self._notices: list[str] = []
        self.trouble: str | None = None
        """What is wrong, as one sentence that a person can act on; None while there is room."""

    @property
    def is_full(self) -> bool:
        """True when the engine's lines are being lost, as far as the last look could tell."""
        return self.trouble is not None

    @property
    def is_at_rest(self) -> bool:
        """True when the last look found room, and nothing has been written since."""
        return self._has_looked_since and not self.is_full

    def take_notices(self) -> list[str]:
        """Sentences for the daemon's own log, each given once."""
        notices, self._notices = self._notices, []
        return notices

    def has_grown(self) -> None:
        """Takes note that the engine could write."""
        self._has_looked_since = False

    def is_due(self, *, has_cut_line: bool) -> bool:
        """True when it is time to look, and once when the newest line has no end."""
        every_s = LOOK_AT_REST_EVERY_S if self.is_at_rest else LOOK_EVERY_S
        return self._clock.mono() - self._looked_mono >= every_s or (
            has_cut_line and not self._has_looked_since
        )

    def look(self, spool: SpoolReader) -> bool:
        """Looks at the disk of this spool.

        :returns: whether it was full until now and is not any more
        :raises OSError: nothing can be told
        """
        self._looked_mono, self._has_looked_since = self._clock.mono(), True
        room = spool.room_bytes()
        if not self.is_full and room < FULL_BELOW_BYTES:
            folder = spool.path.parent
            self.trouble = (
                f"The disk of {folder} is full: the engine runs on, but its log lines are lost. "
                "Make room there, or set ARASUL_STATE_DIR to a folder on another disk."
            )
        elif self.is_full and room >= AGAIN_FROM_BYTES:
            self.trouble = None
            self._notices.append(
                f"The disk of {spool.path.parent} has room again; what the engine logged meanwhile is lost."
            )
            return True
        return False
