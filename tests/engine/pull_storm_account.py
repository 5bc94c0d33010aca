"""What a storm of pulls cost: the bytes beyond those of the blobs, and why each was sent again. Pure.

A range begins where the note of its part stands, so a byte is fetched twice only when a later range begins before the
end of an earlier one. That has a good reason in four cases: a SIGKILL forgets the parts in flight (facts/ollama.md §8);
Ollama begins a part anew whose connection was reset, or that it gave up after 30 s of silence; and what was on the way
when Ollama left was sent, not received.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.engine.registry_wire import Served

# How long after the last byte was sent it may still be unread, or its part's note unwritten, on a busy box.
UNNOTED_S: Final = 1.0
STALL_S: Final = 30.0  # Ollama's own
# Socket buffers of both sides: what one connection can have on the way.
ON_THE_WAY_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Killing:
    """A SIGKILL of engine or daemon, and when the engine was seen dead; monotonic seconds."""

    who: str
    at_mono: float
    dead_mono: float

    def hits(self, served: Served) -> bool:
        """True when that range was in flight, or not yet noted."""
        began_mono, ended_mono = served.at_mono
        return began_mono <= self.dead_mono and ended_mono + UNNOTED_S >= self.at_mono


@dataclass(slots=True)
class Account:
    """Bytes of all ranges of a storm; `without_need` names the ranges that nothing explains."""

    unique_bytes: int = 0
    served_bytes: int = 0
    by_sigkill_bytes: int = 0
    by_reset_bytes: int = 0
    by_stall_bytes: int = 0
    on_the_way_bytes: int = 0
    without_need_bytes: int = 0
    without_need: list[str] = field(default_factory=list)

    @property
    def overhead_percent(self) -> float:
        """Bytes sent beyond those of the blobs, in percent of these."""
        return round(100 * (self.served_bytes / self.unique_bytes - 1), 2)


def account_of(ranges: Iterable[Served], sizes: Mapping[str, int], killings: Sequence[Killing]) -> Account:
    """The account of a storm.

    :param ranges: all ranges that were asked for
    :param sizes: bytes of each blob, by digest
    """
    account = Account(unique_bytes=sum(sizes.values()))
    by_begin = sorted((entry for entry in ranges if entry.status == 206), key=lambda entry: entry.at_mono)
    account.served_bytes = sum(entry.sent_bytes for entry in by_begin)
    by_digest: dict[str, list[Served]] = {}
    for entry in by_begin:
        by_digest.setdefault(entry.digest or "", []).append(entry)
    for digest, entries in by_digest.items():
        _add_blob(account, entries, sizes[digest], killings)
    return account


@dataclass(frozen=True, slots=True)
class _Span:
    """Bytes of one blob, and by which range they came last."""

    first: int
    end: int
    by: Served


def _add_blob(account: Account, entries: Sequence[Served], size: int, killings: Sequence[Killing]) -> None:
    spans: list[_Span] = []
    for entry in entries:
        begin = entry.first or 0
        fresh = _Span(begin, begin + entry.sent_bytes, entry)
        # A blob whose last note was just removed has none at all: a kill before its file has its name forgets it whole.
        was_whole = sum(span.end - span.first for span in spans) >= size
        kept: list[_Span] = []
        for span in spans:
            again = min(span.end, fresh.end) - max(span.first, fresh.first)
            if again > 0:
                latest = max(spans, key=lambda other: other.by.at_mono[1]) if was_whole else span
                _explain(account, again, span, entry, latest, killings)
            kept += _without(span, fresh)
        spans = [*kept, fresh]


def _explain(
    account: Account, again: int, span: _Span, entry: Served, latest: _Span, killings: Sequence[Killing]
) -> None:
    before = [killing for killing in killings if killing.at_mono <= entry.at_mono[0]]
    if any(killing.hits(span.by) or killing.hits(latest.by) for killing in before):
        account.by_sigkill_bytes += again
    elif span.by.ended == "reset":
        account.by_reset_bytes += again
    elif span.by.ended == "stalled" and span.by.at_mono[1] - span.by.at_mono[0] >= STALL_S:
        account.by_stall_bytes += again
    elif span.by.ended == "left" and again <= ON_THE_WAY_BYTES:
        account.on_the_way_bytes += again
    else:
        account.without_need_bytes += again
        account.without_need.append(
            f"{again} bytes of {entry.digest} from {max(span.first, entry.first or 0)}: first by a range that "
            f"{_told(span.by)}, again by one that {_told(entry)}"
        )


def _told(entry: Served) -> str:
    began_mono, ended_mono = entry.at_mono
    return (
        f"began at {entry.first} ({began_mono:.3f} s) and was {entry.ended} after {entry.sent_bytes} "
        f"({ended_mono:.3f} s)"
    )


def _without(span: _Span, fresh: _Span) -> list[_Span]:
    edges = ((span.first, min(span.end, fresh.first)), (max(span.first, fresh.end), span.end))
    return [_Span(first, end, span.by) for first, end in edges if first < end]
