"""Guards what is done to damaged notes of a download, and that nothing else is touched (facts on Ollama §7 row 17)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store.manifests import Layer
from arasul_supervisor.model_store.part_mending import MendedParts, PartNote, mend_parts, missing_notes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIZE = 250  # parts of 100, 100 and 50
WHOLE = {
    "0": PartNote(0, 0, 100, 100),
    "1": PartNote(1, 100, 100, 40),
    "2": PartNote(2, 200, 50, 0),
}
TEXTS = {
    "0": '{"N":0,"Offset":0,"Size":100,"Completed":100}\n',
    "1": '{"N":1,"Offset":100,"Size":100,"Completed":40}\n',
    "2": '{"N":2,"Offset":200,"Size":50,"Completed":0}\n',
}
LAYER = Layer("sha256:" + "a" * 64, SIZE, "model")
OTHER = Layer("sha256:" + "b" * 64, SIZE, "model")


def missing(found: Mapping[str, PartNote | None], file_bytes: int = SIZE) -> tuple[PartNote, ...] | None:
    return missing_notes(found, size_bytes=SIZE, file_bytes=file_bytes)


def test_whole_notes_lack_nothing() -> None:
    assert missing(WHOLE) == ()


@pytest.mark.parametrize(
    ("found", "written"),
    [
        pytest.param(WHOLE | {"0": None}, [PartNote(0, 0, 100, 0)], id="first damaged"),
        pytest.param(WHOLE | {"2": None}, [PartNote(2, 200, 50, 0)], id="last damaged"),
        pytest.param({"0": WHOLE["0"], "2": WHOLE["2"]}, [PartNote(1, 100, 100, 0)], id="middle missing"),
        pytest.param(
            {"0": WHOLE["0"]}, [PartNote(1, 100, 100, 0), PartNote(2, 200, 50, 0)], id="first known"
        ),
        pytest.param(
            {"0": None, "1": None, "2": WHOLE["2"]},
            [PartNote(0, 0, 100, 0), PartNote(1, 100, 100, 0)],
            id="last known",
        ),
    ],
)
def test_one_whole_note_tells_what_all_others_said(
    found: Mapping[str, PartNote | None], written: list[PartNote]
) -> None:
    assert missing(found) == tuple(written)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({"0": None, "1": None, "2": None}, id="none is whole"),
        pytest.param(WHOLE | {"3": None}, id="one too many"),
        pytest.param(WHOLE | {"x": None}, id="no number"),
        pytest.param(WHOLE | {"1": PartNote(1, 90, 100, 0)}, id="offset between two parts"),
        pytest.param(WHOLE | {"2": PartNote(2, 190, 50, 0)}, id="over the end of the part before"),
        pytest.param(WHOLE | {"2": PartNote(2, 200, 60, 0)}, id="beyond the end of the layer"),
        pytest.param(WHOLE | {"2": PartNote(2, 200, 40, 0)}, id="short of the end of the layer"),
        pytest.param(WHOLE | {"1": PartNote(1, 100, 100, 101)}, id="more completed than there is"),
        pytest.param({"0": None, "1": PartNote(1, 0, 100, 0)}, id="two parts at one place"),
        pytest.param({"1": None, "0": PartNote(0, 0, 0, 0)}, id="empty part"),
        pytest.param({"3": PartNote(3, 200, 50, 0), "0": None}, id="no whole number of parts before it"),
    ],
)
def test_notes_that_contradict_each_other_tell_nothing(found: Mapping[str, PartNote | None]) -> None:
    assert missing(found) is None


def test_notes_of_bytes_that_are_not_in_the_file_tell_nothing() -> None:
    assert missing({"0": WHOLE["0"], "1": WHOLE["1"]}, file_bytes=139) is None  # 100 + 40 are completed


@pytest.mark.parametrize(
    ("found", "written"),
    [
        pytest.param(WHOLE, (), id="whole"),
        pytest.param({"0": WHOLE["0"], "2": WHOLE["2"]}, (PartNote(1, 100, 100, 0),), id="middle missing"),
        pytest.param(WHOLE | {"2": None}, None, id="damaged"),
        pytest.param({"0": PartNote(0, 0, 0, 0)}, None, id="without bytes"),
    ],
)
def test_a_layer_of_unknown_size_is_as_long_as_its_notes_if_all_are_whole(
    found: Mapping[str, PartNote | None], written: tuple[PartNote, ...] | None
) -> None:
    assert missing_notes(found, size_bytes=0, file_bytes=SIZE) == written


def test_parts_too_small_to_be_meant_tell_nothing() -> None:
    found = {"0": PartNote(0, 0, 1, 0)}

    assert missing_notes(found, size_bytes=10**15, file_bytes=0) is None


def leave(store: Path, layer: Layer, notes: Mapping[str, str]) -> Path:
    blob = store / "blobs" / layer.digest.replace(":", "-")
    blob.parent.mkdir(exist_ok=True)
    blob.with_name(f"{blob.name}-partial").write_bytes(bytes(SIZE))
    for number, text in notes.items():
        blob.with_name(f"{blob.name}-partial-{number}").write_text(text)
    return blob


def seen(store: Path) -> dict[str, tuple[int, str]]:
    """Names, inodes and texts."""
    return {file.name: (file.stat().st_ino, file.read_text()) for file in (store / "blobs").iterdir()}


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "\0" * 40,
        '{"N":1,"Off',
        "7",
        "[" * 4000,
        "{}",
        '{"N":1,"Offset":100,"Size":100}',
        '{"N":2,"Offset":100,"Size":100,"Completed":0}',
        '{"N":1,"Offset":100,"Size":100,"Completed":true}',
        '{"N":1,"Offset":100,"Size":100,"Completed":-1}',
    ],
    ids=["empty", "zeros", "cut", "number", "deep", "bare", "lacks one", "other number", "bool", "negative"],
)
def test_a_damaged_note_is_written_anew_with_nothing_completed(tmp_path: Path, damaged: str) -> None:
    blob = leave(tmp_path, LAYER, TEXTS | {"1": damaged})

    mended = mend_parts(tmp_path, [LAYER])

    assert mended == MendedParts(rewritten=1)
    note = blob.with_name(f"{blob.name}-partial-1")
    assert note.read_bytes() == b'{"N":1,"Offset":100,"Size":100,"Completed":0}\n'


def test_only_the_damaged_note_is_written(tmp_path: Path) -> None:
    leave(tmp_path, LAYER, TEXTS | {"1": ""})
    before = seen(tmp_path)

    mend_parts(tmp_path, [LAYER])

    after = seen(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"sha256-" + "a" * 64 + "-partial-1"}
    assert after.keys() == before.keys()


def test_the_new_note_has_the_mode_of_the_others(tmp_path: Path) -> None:
    blob = leave(tmp_path, LAYER, {"0": TEXTS["0"], "2": TEXTS["2"]})
    for number in "02":
        blob.with_name(f"{blob.name}-partial-{number}").chmod(0o640)

    mend_parts(tmp_path, [LAYER])

    assert blob.with_name(f"{blob.name}-partial-1").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_new_note_has_the_owner_of_the_others(tmp_path: Path) -> None:
    blob = leave(tmp_path, LAYER, {"0": TEXTS["0"], "2": TEXTS["2"]})
    for number in "02":
        os.chown(blob.with_name(f"{blob.name}-partial-{number}"), 1234, 2345)

    mend_parts(tmp_path, [LAYER])

    found = blob.with_name(f"{blob.name}-partial-1").stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_a_draft_is_no_note_to_ollama_and_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = leave(tmp_path, LAYER, TEXTS | {"1": ""})
    during: list[list[str]] = []

    def fail(fd: int) -> None:
        during.append(sorted(file.name for file in blob.parent.glob(f"{blob.name}-partial-*")))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        mend_parts(tmp_path, [LAYER])

    assert during == [[f"{blob.name}-partial-{number}" for number in range(3)]]
    assert len(list(blob.parent.iterdir())) == 4  # the three notes and the file


def test_parts_that_nobody_knows_any_more_are_removed(tmp_path: Path) -> None:
    leave(tmp_path, LAYER, {"0": "", "1": ""})

    mended = mend_parts(tmp_path, [LAYER])

    assert (mended.rewritten, mended.removed) == (0, (LAYER.digest,))
    assert mended.freed_bytes > 0
    assert list((tmp_path / "blobs").iterdir()) == []


def test_other_layers_are_left_as_they_are(tmp_path: Path) -> None:
    leave(tmp_path, OTHER, {"0": ""})
    before = seen(tmp_path)

    mended = mend_parts(tmp_path, [LAYER])

    assert (mended, seen(tmp_path)) == (MendedParts(), before)


def test_whole_notes_are_left_as_they_are(tmp_path: Path) -> None:
    leave(tmp_path, LAYER, TEXTS)
    before = seen(tmp_path)

    mended = mend_parts(tmp_path, [LAYER])

    assert (mended, seen(tmp_path)) == (MendedParts(), before)


def test_a_finished_layer_is_left_as_it_is(tmp_path: Path) -> None:
    leave(tmp_path, LAYER, TEXTS | {"1": ""}).write_bytes(bytes(SIZE))
    before = seen(tmp_path)

    mended = mend_parts(tmp_path, [LAYER])

    assert (mended, seen(tmp_path)) == (MendedParts(), before)


def test_an_unfinished_file_without_notes_is_left_as_it_is(tmp_path: Path) -> None:
    leave(tmp_path, LAYER, {})
    before = seen(tmp_path)

    mended = mend_parts(tmp_path, [LAYER])

    assert (mended, seen(tmp_path)) == (MendedParts(), before)


def test_a_store_into_which_nothing_was_pulled_needs_no_mending(tmp_path: Path) -> None:
    assert mend_parts(tmp_path, [LAYER]) == MendedParts()
