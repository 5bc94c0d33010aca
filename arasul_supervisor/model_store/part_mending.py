"""The cure of a download that ends with `EOF` for ever: a note of its parts is damaged. Blocks: call it in a thread.

Ollama reads the notes `blobs/sha256-<hex>-partial-<N>` before it asks for a byte, and gives up at the first that is
empty or no JSON; one that is missing or `{}` ends in a digest mismatch (facts/ollama.md §0.9, §7 row 17).
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.parts import blob_file, remove_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from arasul_supervisor.model_store.manifests import Layer

MAX_PARTS: Final = 10_000  # parts have 100 MB to 1 GB, this is more than 1 TB
MAX_NOTE_BYTES: Final = 4096

_PARTIAL: Final = "-partial"


@dataclass(frozen=True, slots=True)
class MendedParts:
    """What was done: notes written anew, layers (`sha256:…`) whose parts were removed, and what that freed on disk."""

    rewritten: int = 0
    removed: tuple[str, ...] = ()
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PartNote:
    """What Ollama notes of the `number`th part: `completed_bytes` of it are there."""

    number: int
    offset_bytes: int
    size_bytes: int
    completed_bytes: int


def mend_parts(store: Path, layers: Sequence[Layer]) -> MendedParts:
    """Mend the layers whose notes are damaged; all others are left as they are.

    Where the whole notes tell what the others said, those are written anew with nothing completed, so that finished
    parts are not fetched twice; else all parts of that layer are removed. Only while Ollama pulls none of these
    layers: it writes its notes in place, and one that is half written looks damaged.

    :param store: the folder that OLLAMA_MODELS names
    :raises OSError: a note could not be read, written or removed
    """
    notes_of = _note_files(store)
    rewritten, freed_bytes = 0, 0
    removed: list[str] = []
    for layer in layers:
        blob = blob_file(store, layer.digest)
        files = notes_of.get(blob.name)
        if not files or blob.exists():
            continue
        try:
            n_written = _write_missing(blob, files, layer.size_bytes)
        except FileNotFoundError:  # Ollama was quicker
            continue
        if n_written is None:
            freed_bytes += remove_parts(store, [layer.digest])
            removed.append(layer.digest)
        else:
            rewritten += n_written
    return MendedParts(rewritten, tuple(removed), freed_bytes)


def _write_missing(blob: Path, files: Mapping[str, Path], size_bytes: int) -> int | None:
    """Number of notes written; None when what they said is not known."""
    missing = missing_notes(
        {number: _read_note(file, number) for number, file in files.items()},
        size_bytes=size_bytes,
        file_bytes=_length(blob.with_name(blob.name + _PARTIAL)),
    )
    if missing is None:
        return None
    for note in missing:
        _write_note(blob, note, like=next(iter(files.values())))
    return len(missing)


def missing_notes(
    found: Mapping[str, PartNote | None], *, size_bytes: int, file_bytes: int
) -> tuple[PartNote, ...] | None:
    """The notes to write so that the found ones cover the layer; empty when they do, None when that is not known.

    Pure. Every part but the last has the same size, so one whole note and the layer's size determine all.

    :param found: by the number in the file's name; None for a damaged one
    :param size_bytes: of the layer; 0 where it is not known: then only whole notes tell it
    :param file_bytes: length of the unfinished file, whose bytes the whole notes speak of
    """
    whole = [note for note in found.values() if note is not None]
    part_bytes = _part_bytes(whole)
    if not size_bytes and len(whole) == len(found):
        size_bytes = max((note.offset_bytes + note.size_bytes for note in whole), default=0)
    if not size_bytes or not part_bytes or size_bytes > part_bytes * MAX_PARTS:
        return None
    offsets = range(0, size_bytes, part_bytes)
    layout = [
        PartNote(number, offset, min(part_bytes, size_bytes - offset), 0)
        for number, offset in enumerate(offsets)
    ]
    expected = {str(note.number): note for note in layout}
    if found.keys() - expected.keys():
        return None
    if not all(_agrees(note, expected[str(note.number)], file_bytes) for note in whole):
        return None
    return tuple(note for number, note in expected.items() if found.get(number) is None)


def _part_bytes(whole: Sequence[PartNote]) -> int | None:
    """Length of every part but the last, if these notes agree on one."""
    for note in whole:
        if note.number > 0:
            return note.offset_bytes // note.number
    return whole[0].size_bytes if whole else None


def _agrees(note: PartNote, expected: PartNote, file_bytes: int) -> bool:
    is_there = not note.completed_bytes or note.offset_bytes + note.completed_bytes <= file_bytes
    return (
        is_there
        and (note.offset_bytes, note.size_bytes) == (expected.offset_bytes, expected.size_bytes)
        and note.completed_bytes <= note.size_bytes
    )


def _note_files(store: Path) -> dict[str, dict[str, Path]]:
    """All notes of the store, by the name of their blob and the number in their own."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in _files(store / "blobs"):
        blob, partial, number = file.name.partition(f"{_PARTIAL}-")
        if partial:
            found[blob][number] = file
    return found


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except FileNotFoundError:  # nothing was ever pulled
        return


def _read_note(file: Path, number: str) -> PartNote | None:
    """The note, `{"N":0,"Offset":0,"Size":100000000,"Completed":22020096}`; None for a damaged one."""
    with file.open("rb") as note:
        content = note.read(MAX_NOTE_BYTES)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    figures = [value.get(key) for key in ("N", "Offset", "Size", "Completed")]
    whole = [figure for figure in figures if type(figure) is int and figure >= 0]
    if len(whole) < len(figures) or str(whole[0]) != number:
        return None
    return PartNote(*whole)


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _write_note(blob: Path, note: PartNote, *, like: Path) -> None:
    """Put the note in its place whole, with the owner and mode of another one."""
    figures = {
        "N": note.number,
        "Offset": note.offset_bytes,
        "Size": note.size_bytes,
        "Completed": note.completed_bytes,
    }
    # Ollama takes whatever matches `-partial-*` for a note; `remove_parts` finds this one too
    draft = blob.with_name(f"{blob.name}{_PARTIAL}.{note.number}.new")
    model = like.stat()
    try:
        with draft.open("w") as out:
            out.write(json.dumps(figures, separators=(",", ":")) + "\n")
            os.fchmod(out.fileno(), model.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(out.fileno(), model.st_uid, model.st_gid)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(blob.with_name(f"{blob.name}{_PARTIAL}-{note.number}"))
    finally:
        draft.unlink(missing_ok=True)
