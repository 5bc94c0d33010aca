"""What one watcher of a pull has not read yet, in bounded memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

MAX_PENDING: Final = 128


class PullFeed:
    """Keeps the newest line per layer and per status; a slow watcher misses only what was overtaken."""

    def __init__(self) -> None:
        self._pending: dict[str, Mapping[str, object]] = {}
        self._last: Mapping[str, object] | None = None
        self._something_new = asyncio.Event()

    def push(self, key: str, line: Mapping[str, object]) -> None:
        """A line that replaces an unread one of the same key; never waits."""
        if self._last is not None:
            return
        self._pending.pop(key, None)
        self._pending[key] = line
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._something_new.set()

    def end(self, last: Mapping[str, object]) -> None:
        """The last line; nothing follows it."""
        if self._last is None:
            self._last = last
            self._something_new.set()

    async def lines(self) -> AsyncGenerator[Mapping[str, object], None]:
        """The lines in their order, until the last one."""
        while True:
            while self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            if self._last is not None:
                yield self._last
                return
            self._something_new.clear()
            await self._something_new.wait()


class Watchers:
    """The feeds of all that watch one pull."""

    def __init__(self) -> None:
        self._feeds: set[PullFeed] = set()

    def __bool__(self) -> bool:
        return bool(self._feeds)

    def enter(
        self, known: Mapping[str, Mapping[str, object]], *, last: Mapping[str, object] | None = None
    ) -> PullFeed:
        """A new one, which begins with what is known; with `last` nothing follows."""
        feed = PullFeed()
        for key, line in known.items():
            feed.push(key, line)
        if last is not None:
            feed.end(last)
        self._feeds.add(feed)
        return feed

    def leave(self, feed: PullFeed) -> None:
        """It is read no more."""
        self._feeds.discard(feed)

    def tell(self, key: str, line: Mapping[str, object]) -> None:
        """The same line for all."""
        for feed in self._feeds:
            feed.push(key, line)

    def end(self, last: Mapping[str, object]) -> None:
        """The last line of all; who enters from now on is another round."""
        for feed in self._feeds:
            feed.end(last)
