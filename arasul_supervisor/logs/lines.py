"""Cuts a byte stream into lines, whatever the chunks it comes in; pure.

Lines end at `\\n` alone (`splitlines` cuts at \\r, \\x0b, \\x85, U+2028 too: facts/process.md §13). They stay bytes:
a UTF-8 sequence never holds a newline, so cutting here is safe, and who reads a line decodes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_LIMIT_BYTES: Final = 64 * 1024
CUT_MARK: Final = b" [cut @ 64 KiB]"  # its @ makes the redaction look at the line


class Splitter:
    """Gives the complete lines of each chunk as one block of bytes, every line ended by `\\n`.

    Of a line longer than the limit the beginning is kept, with a mark. Of `\\r` progress the part behind the last
    `\\r` is kept; in a line that is needed whole each part is a line of its own, for the first may tell that the
    others are private. The same bytes give the same lines however they are split into chunks.
    """

    def __init__(
        self,
        *,
        limit_bytes: int = LINE_LIMIT_BYTES,
        needs_whole: Callable[[bytes], bool] = lambda _line: False,
    ) -> None:
        """Begin with nothing.

        :param limit_bytes: longest line kept, without its end
        :param needs_whole: true for a line that a rule or the redaction must see in one piece: it is never
            flushed half, and comes again as a whole when its beginning was
        """
        self._limit_bytes = limit_bytes
        self._needs_whole = needs_whole
        self._partial = b""  # at most limit + 1 bytes: the one more tells that the line is too long
        self._n_flushed = 0
        self._is_skipping = False
        self.cut_lines = 0
        self.unended_bytes = 0
        """Bytes fed since the last newline."""

    @property
    def flushed_bytes(self) -> int:
        """How much of the line that has not ended was given by `flush`."""
        return self._n_flushed

    @property
    def beginning(self) -> bytes | None:
        """All of the line that has not ended yet, flushed or not; None while it is being skipped."""
        return None if self._is_skipping else self._partial

    @property
    def partial(self) -> bytes:
        """The beginning of the line that has not ended yet, without what was flushed of it."""
        return self._partial[self._n_flushed :]

    def feed(self, chunk: bytes) -> bytes:
        """The lines that this chunk completes; empty when none."""
        if self._is_skipping:
            _, newline, chunk = chunk.partition(b"\n")
            self._is_skipping = not newline
        cut = chunk.rfind(b"\n") + 1
        self.unended_bytes = len(chunk) - cut + (0 if cut else self.unended_bytes)
        if cut == 0:
            self._keep(chunk)
            return b""
        if self._n_flushed:
            first_end = chunk.index(b"\n") + 1
            head = self._finish_flushed(chunk[:first_end])
            block = chunk[first_end:cut]
        else:
            head = b""
            block = b"".join((self._partial, memoryview(chunk)[:cut]))  # half as many copies as by +
        self._partial = b""
        self._keep(chunk[cut:])
        return head + self._normalised(block)

    def flush(self) -> bytes:
        """After a pause: the partial line as a line, unless somebody needs it whole. What follows it comes later."""
        if not self.partial or self._needs_whole(self._partial):
            return b""
        line = self._line(self.partial)
        self._n_flushed = len(self._partial)
        return line

    def end(self) -> bytes:
        """At the end of the stream: whatever is left, as a line."""
        block = (
            self._finish_flushed(b"\n") if self._n_flushed else self._partial and self._line(self._partial)
        )
        self._partial, self._is_skipping, self.unended_bytes = b"", False, 0
        return block

    def resume_line(self, flushed_bytes: int) -> None:
        """Begin with a line of which so much was given before, by another splitter."""
        self._partial, self._n_flushed, self._is_skipping = b"", flushed_bytes, False

    def skip_line(self) -> None:
        """Forgets the partial line and all up to the next newline: the stream was entered in the middle."""
        self._partial, self._n_flushed, self._is_skipping = b"", 0, True
        self.unended_bytes = 0

    def _keep(self, rest: bytes) -> None:
        self._partial += rest[: self._limit_bytes + 1 - len(self._partial)]

    def _finish_flushed(self, rest: bytes) -> bytes:
        whole = self._partial + rest[:-1]
        n_flushed, self._n_flushed = self._n_flushed, 0
        if self._needs_whole(whole):
            return self._line(whole)
        return self._line(whole[n_flushed:]) if len(whole) > n_flushed else b""

    def _normalised(self, block: bytes) -> bytes:
        if b"\r" not in block and not self._has_long_line(block):
            return block
        return b"".join(self._line(line) for line in block.split(b"\n")[:-1])

    def _has_long_line(self, block: bytes) -> bool:
        start = 0
        while len(block) - start > self._limit_bytes + 1:
            newline = block.rfind(b"\n", start, start + self._limit_bytes + 1)
            if newline < 0:
                return True
            start = newline + 1
        return False

    def _line(self, raw: bytes) -> bytes:
        is_long = len(raw) > self._limit_bytes
        if is_long:
            self.cut_lines += 1
            raw = raw[: self._limit_bytes]
        raw = raw.removesuffix(b"\r")  # CRLF: nothing follows that \r
        if b"\r" in raw:
            raw = raw.replace(b"\r", b"\n") if self._needs_whole(raw) else raw[raw.rfind(b"\r") + 1 :]
        return raw + (CUT_MARK if is_long else b"") + b"\n"


def pieces(block: bytes, size_bytes: int) -> Iterator[bytes]:
    """The block in parts of about this size, cut behind a newline; a longer line stays whole."""
    start = 0
    while len(block) - start > size_bytes:
        cut = block.rfind(b"\n", start, start + size_bytes) + 1
        if cut <= start:
            cut = block.find(b"\n", start + size_bytes) + 1 or len(block)
        yield block[start:cut]
        start = cut
    if start < len(block):
        yield block[start:]
