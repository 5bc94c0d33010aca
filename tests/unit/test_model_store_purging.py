"""Guards CONTRACT §4 `?purge=true`: what is left over goes, and nothing that a model, a pull or a process has."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store.purging import bytes_gone, purge, remove_corrupt_manifest
from arasul_supervisor.supervision.open_files import open_files
from tests.engine.store import blob_path, digest_of, layers_of, manifest_path

if TYPE_CHECKING:
    from pathlib import Path

MINE, OTHER = digest_of(b"mine"), digest_of(b"other")
BLOCK = 4096


def write(path: Path, content: bytes = b"x" * BLOCK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def part(store: Path, digest: str) -> Path:
    return blob_path(store, f"{digest}-partial")


def left(store: Path) -> set[str]:
    return {path.name for path in (store / "blobs").iterdir()}


def test_unfinished_parts_go_and_their_bytes_are_told(tmp_path: Path) -> None:
    write(part(tmp_path, MINE))
    write(blob_path(tmp_path, f"{MINE}-partial-0"))
    kept = write(part(tmp_path, OTHER))

    purged = purge(tmp_path, [MINE], wanted=(), open_files=())

    assert (purged.freed_bytes, purged.kept_bytes) == (2 * BLOCK, 0)
    assert left(tmp_path) == {kept.name}


def test_a_finished_blob_that_no_model_names_goes_with_what_ollama_noted_of_it(tmp_path: Path) -> None:
    blob = write(blob_path(tmp_path, MINE))
    noted = write(tmp_path / "metadata" / f"{blob.name}.json")

    purge(tmp_path, [MINE], wanted=(), open_files=())

    assert (blob.exists(), noted.exists()) == (False, False)


def test_a_finished_blob_that_a_model_names_stays(tmp_path: Path) -> None:
    layers = layers_of(b"weights")
    write(manifest_path(tmp_path, "tiny"), layers.manifest)
    blobs = {write(blob_path(tmp_path, digest), content).name for digest, content in layers.blobs.items()}

    purged = purge(tmp_path, layers.blobs, wanted=(), open_files=())

    assert (left(tmp_path), purged.freed_bytes) == (blobs, 0)
    assert purged.kept_bytes > 0


def test_while_a_manifest_is_corrupt_finished_blobs_stay_and_parts_go(tmp_path: Path) -> None:
    write(manifest_path(tmp_path, "half"), b'{"layers":[')
    blob = write(blob_path(tmp_path, MINE))
    write(part(tmp_path, OTHER))

    purge(tmp_path, [MINE, OTHER], wanted=(), open_files=())

    assert left(tmp_path) == {blob.name}


def test_what_another_job_wants_stays(tmp_path: Path) -> None:
    names = {write(blob_path(tmp_path, MINE)).name, write(part(tmp_path, OTHER)).name}

    purged = purge(tmp_path, [MINE, OTHER], wanted={MINE, OTHER}, open_files=())

    assert (left(tmp_path), purged.kept_bytes) == (names, 2 * BLOCK)


def test_parts_that_a_process_has_open_stay_with_their_notes_and_so_do_finished_blobs(tmp_path: Path) -> None:
    unfinished, note = write(part(tmp_path, MINE)), write(blob_path(tmp_path, f"{MINE}-partial-0"))
    finished = write(blob_path(tmp_path, OTHER))

    purge(tmp_path, [MINE, OTHER], wanted=(), open_files={str(unfinished)})

    assert left(tmp_path) == {unfinished.name, note.name, finished.name}


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "", "sha256-" + "0" * 64])
def test_what_is_no_digest_is_no_path(digest: str, tmp_path: Path) -> None:
    assert purge(tmp_path, [digest], wanted=(), open_files=()).freed_bytes == 0


def test_the_bytes_gone_are_those_of_blobs_that_are_no_longer_there(tmp_path: Path) -> None:
    write(blob_path(tmp_path, MINE))

    assert bytes_gone(tmp_path, {MINE: 4096, OTHER: 7}) == 7


def test_a_corrupt_manifest_is_removed_and_tells_the_layers_that_it_still_names(tmp_path: Path) -> None:
    file = write(manifest_path(tmp_path, "half"), layers_of(b"weights").manifest[:-5])

    digests = remove_corrupt_manifest(file)

    assert digests == layers_of(b"weights").blobs.keys()
    assert not file.exists()


def test_a_manifest_that_was_mended_meanwhile_stays(tmp_path: Path) -> None:
    file = write(manifest_path(tmp_path, "tiny"), layers_of(b"weights").manifest)

    assert remove_corrupt_manifest(file) is None
    assert file.exists()


@pytest.mark.blocking  # it waits for a child's first byte
def test_open_files_are_told_by_the_path_that_was_asked_for_and_those_elsewhere_are_not(
    tmp_path: Path,
) -> None:
    write(part(tmp_path / "real", MINE))
    (tmp_path / "store").symlink_to("real")
    path = part(tmp_path / "store", MINE)
    script = 'exec 3<"$1" 4</dev/null; echo; read line'
    with subprocess.Popen(
        ["/bin/sh", "-c", f"/bin/sh -c '{script}' sh \"$1\"; :", "sh", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        found = open_files(child.pid, tmp_path / "store")
        child.stdin.write(b"\n")

    assert found == {str(path)}


def test_a_process_that_is_gone_has_no_open_files(tmp_path: Path) -> None:
    child = subprocess.Popen(["/bin/true"])
    child.wait()

    assert open_files(child.pid, tmp_path) == frozenset()


def test_finished_blobs_stay_while_the_engine_computes_a_digest(tmp_path: Path) -> None:
    write(blob_path(tmp_path, MINE))
    hashed = write(blob_path(tmp_path, OTHER))

    purge(tmp_path, [MINE], wanted=(), open_files={str(hashed)})

    assert blob_path(tmp_path, MINE).exists()


def test_a_file_that_is_open_is_found_again_by_a_path_below_the_folder(tmp_path: Path) -> None:
    with write(blob_path(tmp_path, MINE)).open("rb") as file:
        assert open_files(os.getpid(), tmp_path) == {file.name}
