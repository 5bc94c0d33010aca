"""Guards that a pull that ended with `EOF` for ever can be mended (facts on Ollama §0.9, §7 row 17)."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from arasul_supervisor.model_store.manifests import Layer, parse_manifest
from arasul_supervisor.model_store.part_mending import MendedParts, mend_parts
from tests.engine.processes import is_alive, wait_until
from tests.engine.store import blob_path

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.engine.real import BareEngine
    from tests.engine.registry import Registry

MB = 1_000_000
PART = 100 * MB
SIZE = 250 * MB  # three parts: 100, 100 and 50 MB
EOF = "EOF"
SUCCESS = "success"
FINISHED = {
    0: '{"N":0,"Offset":0,"Size":100000000,"Completed":100000000}\n',
    1: '{"N":1,"Offset":100000000,"Size":100000000,"Completed":100000000}\n',
    2: '{"N":2,"Offset":200000000,"Size":50000000,"Completed":50000000}\n',
}


@dataclass(frozen=True, slots=True)
class Ground:
    """A model in the registry, and what of it lies in the store."""

    engine: BareEngine
    registry: Registry
    store: Path
    name: str
    content: bytes
    digest: str

    @property
    def layers(self) -> tuple[Layer, ...]:
        return parse_manifest(self.registry.models[self.name.partition("/")[2]].manifest).layers

    @property
    def blob(self) -> Path:
        return blob_path(self.store, self.digest)

    @property
    def partial(self) -> Path:
        return self.blob.with_name(self.blob.name + "-partial")

    def note_file(self, number: int) -> Path:
        return self.partial.with_name(f"{self.partial.name}-{number}")

    def leave_parts(self, notes: Mapping[int, str], *, finished: Sequence[int] = ()) -> None:
        """What an earlier pull left: the notes, and the unfinished file with the bytes of these parts."""
        with self.partial.open("wb") as file:
            for number in finished:
                file.seek(number * PART)
                file.write(memoryview(self.content)[number * PART : (number + 1) * PART])
            file.truncate(len(self.content))
        for number, text in notes.items():
            self.note_file(number).write_text(text)

    def pull(self) -> str:
        """The last word of a pull."""
        answer = self.engine.request(
            "POST",
            "/api/pull",
            {"model": self.name, "insecure": True, "stream": True},
            timeout_s=120,
        )
        last = json.loads(answer.body.splitlines()[-1])
        return str(last.get("error") or last["status"])

    def be_killed_in_a_pull(self) -> None:
        """The engine dies when it has asked for the parts: what it noted at their start stays."""
        body = {"model": self.name, "insecure": True, "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.engine.port, timeout=20)
        connection.request("POST", "/api/pull", json.dumps(body), {"Content-Type": "application/json"})
        with closing(connection), connection.getresponse() as lines:
            wait_until(lambda: b'"total"' in lines.readline(), limit_s=20, what="the parts are asked for")
            os.kill(self.engine.pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(self.engine.pid), limit_s=20, what="the engine is dead")

    def fetched(self) -> list[tuple[int | None, int | None]]:
        """Ranges of the model that were asked for."""
        path = f"blobs/{self.digest}"
        return sorted((part.first, part.last) for part in self.registry.ranges() if path in part.path)


def ground(engine: BareEngine, registry: Registry, tmp_path: Path, content: bytes) -> Ground:
    name = registry.put_bytes("new", content)
    digest = next(iter(registry.models[name.partition("/")[2]].blobs))
    return Ground(engine, registry, tmp_path / "store", name, content, digest)


def has_right_bytes(blob: Path) -> bool:
    with blob.open("rb") as file:
        sha256 = hashlib.sha256()
        while block := file.read(1 << 20):
            sha256.update(block)
    return blob.name == f"sha256-{sha256.hexdigest()}"


@pytest.mark.parametrize("damaged", ["", '{"N":0,"Off', "\0" * 60], ids=["empty", "cut off", "zeros"])
def test_a_model_of_one_part_is_pulled_after_its_damaged_note_was_removed(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path, damaged: str
) -> None:
    held = ground(bare_engine, registry, tmp_path, b"abc" * 1000)
    held.leave_parts({0: damaged}, finished=[0])
    before = held.pull()

    mended = mend_parts(held.store, held.layers)

    assert before != SUCCESS
    assert mended.removed == (held.digest,)
    assert held.pull() == SUCCESS
    assert has_right_bytes(held.blob)


@pytest.mark.parametrize(
    "damaged", [pytest.param(0, marks=pytest.mark.long), 1, pytest.param(2, marks=pytest.mark.long)]
)
def test_a_note_written_anew_saves_the_finished_parts(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path, rng: random.Random, damaged: int
) -> None:
    held = ground(bare_engine, registry, tmp_path, rng.randbytes(MB) * 250)
    held.leave_parts(FINISHED | {damaged: ""}, finished=sorted({0, 1, 2} - {damaged}))
    before = held.pull()

    mended = mend_parts(held.store, held.layers)

    assert before == EOF
    assert mended == MendedParts(rewritten=1)
    assert held.pull() == SUCCESS
    assert has_right_bytes(held.blob)
    assert held.fetched() == [(damaged * PART, min(SIZE, (damaged + 1) * PART) - 1)]


@pytest.mark.long
def test_a_note_that_is_missing_is_written_anew_too(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path, rng: random.Random
) -> None:
    held = ground(bare_engine, registry, tmp_path, rng.randbytes(MB) * 250)
    held.leave_parts({0: FINISHED[0], 1: FINISHED[1]}, finished=[0, 1])

    mended = mend_parts(held.store, held.layers)

    assert mended == MendedParts(rewritten=1)
    assert held.pull() == SUCCESS
    assert has_right_bytes(held.blob)
    assert held.fetched() == [(2 * PART, SIZE - 1)]


@pytest.mark.long
def test_parts_that_nobody_knows_any_more_are_fetched_from_the_start(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path, rng: random.Random
) -> None:
    held = ground(bare_engine, registry, tmp_path, rng.randbytes(MB) * 250)
    held.leave_parts({0: "", 1: "", 2: ""}, finished=[0])
    before = held.pull()

    mended = mend_parts(held.store, held.layers)

    assert before == EOF
    assert mended.removed == (held.digest,) and mended.freed_bytes >= PART
    assert held.pull() == SUCCESS
    assert has_right_bytes(held.blob)


def test_a_note_written_anew_is_the_one_that_ollama_wrote(
    bare_engine: BareEngine, registry: Registry, tmp_path: Path
) -> None:
    held = ground(bare_engine, registry, tmp_path, bytes(SIZE))
    registry.switches.stalls_before_first_byte = True
    held.be_killed_in_a_pull()
    written = [(file.read_bytes(), file.stat().st_mode) for file in map(held.note_file, range(3))]
    held.note_file(1).write_bytes(b"")
    held.note_file(2).unlink()

    mend_parts(held.store, held.layers)

    assert [(file.read_bytes(), file.stat().st_mode) for file in map(held.note_file, range(3))] == written
