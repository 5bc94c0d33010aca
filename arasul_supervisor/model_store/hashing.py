"""What a blob really holds: its length and the digest of its content. Blocks for as long as the disk takes."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.held_back import fast_sha256
from arasul_supervisor.model_store.parts import blob_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arasul_supervisor.model_store.manifests import Layer

CHUNK_BYTES: Final = 1024 * 1024
LOWEST_PRIORITY: Final = 19
_DISK_TROUBLES: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})


@dataclass(frozen=True, slots=True)
class BlobSeen:
    """What is there of a layer: its length (None: no such file) and its digest (None: not read).

    `trouble` is why the file could not be read, in the system's words; `is_disk_trouble` when the disk is to blame.
    """

    size_bytes: int | None = None
    digest: str | None = None
    trouble: str | None = None
    is_disk_trouble: bool = False


def look_at_blob(
    store: Path, layer: Layer, *, on_bytes: Callable[[int], None], is_wanted: Callable[[], bool]
) -> BlobSeen | None:
    """Length and digest of a layer's blob, whatever they are; None when it was no longer wanted.

    One of another length than its manifest says is read too: the manifest may be what is wrong.

    :param on_bytes: told of the bytes of each chunk that was read
    """
    try:
        size_bytes = blob_file(store, layer.digest).stat().st_size
        digest = hash_blob(store, layer.digest, on_bytes=on_bytes, is_wanted=is_wanted)
    except FileNotFoundError:
        return BlobSeen()
    except OSError as error:
        is_disk = error.errno in _DISK_TROUBLES
        return BlobSeen(trouble=error.strerror or str(error), is_disk_trouble=is_disk)
    return None if digest is None else BlobSeen(size_bytes, digest)


def hash_blob(
    store: Path, digest: str, *, on_bytes: Callable[[int], None], is_wanted: Callable[[], bool]
) -> str | None:
    """The digest of a blob's content, `sha256:<64 hex>`, which should be its name; None when no longer wanted.

    What was read leaves the page cache again: 40 GB of it would push out the weights that a runner maps. Pages that
    are mapped stay (posix_fadvise(2)).

    :raises OSError: it is not there, or cannot be read
    """
    content = fast_sha256()
    chunk = memoryview(bytearray(CHUNK_BYTES))
    place = 0
    with open(blob_file(store, digest), "rb", buffering=0) as blob:
        while is_wanted():
            n_bytes = blob.readinto(chunk)
            if not n_bytes:
                return f"sha256:{content.hexdigest()}"
            content.update(chunk[:n_bytes])
            os.posix_fadvise(blob.fileno(), place, n_bytes, os.POSIX_FADV_DONTNEED)
            place += n_bytes
            on_bytes(n_bytes)
    return None


def give_way() -> None:
    """Lowest processor priority for the calling thread alone, and with it the lowest of the disk's (ioprio_set(2))."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it: then it only takes its fair share
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)


def remove_damaged_blob(store: Path, digest: str) -> None:
    """Remove a blob, and what Ollama noted of its content; neither need be there.

    Ollama never looks again into a blob that it has, and trusts its note (facts/ollama.md §7 row 18, §8).
    """
    blob = blob_file(store, digest)
    (store / "metadata" / f"{blob.name}.json").unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
