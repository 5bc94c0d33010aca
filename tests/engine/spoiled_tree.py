"""A laid out tree whose files can be spoiled, any number in any way, and made whole again."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

BIG_BYTES: Final = 10 * 1000 * 1000
_WRITTEN_BYTES: Final = 1200 * 1000  # more than a reader takes; what is beyond is a hole
_NOBODY: Final = 65534
_NUMBER: Final = re.compile(rb"\d+")


@dataclass(frozen=True, slots=True)
class SpoiledTree:
    """The tree below `root`, and a folder on the same disk to lay the well files aside.

    `entries` are its files, FIFOs and links, links unfollowed, as paths below the root.
    """

    root: Path
    aside: Path
    entries: tuple[str, ...]

    @staticmethod
    def of(root: Path, aside: Path) -> SpoiledTree:
        """What is there now counts as well."""
        found = (
            os.path.relpath(os.path.join(folder, name), root)
            for folder, folders, files in os.walk(root)
            for name in (*files, *(name for name in folders if os.path.islink(os.path.join(folder, name))))
        )
        return SpoiledTree(root, aside, tuple(sorted(found)))

    @contextmanager
    def spoiled(self, faults: Mapping[str, str]) -> Iterator[None]:
        """Each of these entries in the way of `KINDS` that stands beside it, for the length of the block."""
        with ExitStack() as mended:
            for number, (entry, kind) in enumerate(sorted(faults.items())):
                path, well = self.root / entry, self.aside / str(number)
                os.rename(path, well)
                mended.callback(_restore, path, well)
                fd = KINDS[kind](path, well)
                if fd is not None:
                    mended.callback(os.close, fd)
            yield


@contextmanager
def seen_by_nobody() -> Iterator[None]:
    """For root: look with the eyes of a user who owns nothing, from whom modes keep something."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _restore(path: Path, well: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    os.rename(well, path)


def _content(well: Path) -> bytes:
    return well.read_bytes() if well.is_file() and not well.is_symlink() else b"12345 kB\n"


def _says(content: bytes) -> Callable[[Path, Path], None]:
    def spoil(path: Path, _well: Path) -> None:
        path.write_bytes(content)

    return spoil


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def spoil(path: Path, well: Path) -> None:
        path.write_bytes(change(_content(well)))

    return spoil


def _big(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def spoil(path: Path, well: Path) -> None:
        with path.open("wb") as file:
            file.write(change(_content(well))[:_WRITTEN_BYTES])
            file.truncate(BIG_BYTES)

    return spoil


def _missing(_path: Path, _well: Path) -> None:
    """The well file lies aside already."""


def _folder(path: Path, _well: Path) -> None:
    path.mkdir()


def _dangling(path: Path, _well: Path) -> None:
    path.symlink_to("nowhere/at/all")


def _loop(path: Path, _well: Path) -> None:
    path.symlink_to(path.name)


def _fifo(path: Path, _well: Path) -> None:
    os.mkfifo(path)


def _gated(path: Path, _well: Path) -> int:
    """A read answers EAGAIN while somebody holds the FIFO open."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def _forbidden(path: Path, well: Path) -> None:
    path.write_bytes(_content(well))
    path.chmod(0)


def _forbidden_folder(path: Path, _well: Path) -> None:
    path.mkdir(mode=0)


def _stretched(content: bytes) -> bytes:
    """With endless blanks between its first words."""
    return content.replace(b" ", b" " * (_WRITTEN_BYTES // 2), 2)


def _longer(digits: int) -> Callable[[bytes], bytes]:
    """Each of its numbers with that many digits more."""
    return lambda content: _NUMBER.sub(rb"\g<0>" + b"9" * digits, content)


def _middle(content: bytes, inserted: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + inserted + content[half:]


KINDS: Final[Mapping[str, Callable[[Path, Path], int | None]]] = {
    "missing": _missing,
    "empty": _says(b""),
    "one NUL": _says(b"\0"),
    "garbage": _says("[N/A] ±? %s \x1b[0m -- {}\n".encode()),
    "not UTF-8": _says(b"\xff\xfe\x80\xed\xa0\x80\n"),
    "a NUL within": _changed(lambda content: _middle(content, b"\0")),
    "bad bytes within": _changed(lambda content: _middle(content, b"\xff")),
    "cut": _changed(lambda content: content[: len(content) // 2]),
    "20 digits": _changed(_longer(20)),
    "400 digits": _changed(_longer(400)),
    "5000 digits": _changed(_longer(5000)),
    "negative": _changed(lambda content: content.replace(b" ", b" -") if b" " in content else b"-" + content),
    "10 MB of x": _big(lambda _: b"x" * _WRITTEN_BYTES),
    "10 MB of itself": _big(lambda content: content * (_WRITTEN_BYTES // max(1, len(content)) + 1)),
    "10 MB of itself in one line": _big(
        lambda content: content.replace(b"\n", b"") * (_WRITTEN_BYTES // max(1, len(content)) + 1)
    ),
    "10 MB of blanks within": _big(_stretched),
    "folder": _folder,
    "dangling link": _dangling,
    "link to itself": _loop,
    "EAGAIN": _gated,
    "FIFO without a writer": _fifo,
    "mode 000": _forbidden,
    "folder of mode 000": _forbidden_folder,
}
