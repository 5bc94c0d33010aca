"""The ground of the tests keeps its promises: what a test leaves behind, blocks or leaves out is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.store import blob_path, install_model, manifest_path
from tests.engine.tiny_gguf import NORMAL, OTHER, write_cut, write_gguf

if TYPE_CHECKING:
    import random

REPOSITORY = Path(__file__).parents[2]

LEAKY = '''
import asyncio, os, subprocess, tempfile, threading, time
import pytest
from arasul_supervisor import clock


def test_leaves_a_child():
    subprocess.Popen(["sleep", "3"]).returncode = 0

def test_leaves_a_descriptor():
    os.dup(0)

def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(3,), name="forgotten", daemon=True).start()

def test_leaves_a_file():
    open(os.path.join(tempfile.gettempdir(), "arasul-forgotten"), "w").close()

async def test_leaves_a_task():
    asyncio.get_running_loop().forgotten = asyncio.create_task(asyncio.sleep(60), name="forgotten")

async def test_blocks_the_loop():
    blocking_code("time.sleep(0.001)")

async def test_reads_a_file_in_the_loop():
    blocking_code("with open('/etc/passwd') as file: file.read()")

def test_warns():
    import warnings
    warnings.warn("careful")

@pytest.mark.timeout(0.5)
def test_hangs():
    time.sleep(5)

async def test_is_clean():
    await asyncio.to_thread(time.sleep, 0.001)
    blocking_code("with open('/proc/self/stat') as file: file.read()")
    open("/etc/passwd").close()

@pytest.mark.blocking  # says why
async def test_may_block():
    blocking_code("time.sleep(0.001)")

def blocking_code(text):
    """Runs code as if it stood in the package."""
    exec(compile(text, clock.__file__, "exec"), {"time": time})
'''
OUTCOMES = {
    "test_leaves_a_child": "child processes: ",
    "test_leaves_a_descriptor": "file descriptors: ",
    "test_leaves_a_thread": "threads: forgotten",
    "test_leaves_a_file": "temporary files: ",
    "test_leaves_a_task": "the test left tasks behind: ",
    "test_blocks_the_loop": "Blocking call to time.sleep",
    "test_reads_a_file_in_the_loop": "Blocking call to io.TextIOWrapper.read",
    "test_warns": "UserWarning: careful",
    "test_hangs": "Timeout (>0.5s)",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says about a file of bad tests that stand on our ground."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "tmp").mkdir()
    (folder / "conftest.py").write_text(
        "from tests.conftest import *\nfrom tests.engine import leaks\nleaks.SETTLE_LIMIT_S = 0.1\n"
    )
    (folder / "test_leaky.py").write_text(LEAKY)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(REPOSITORY),
        "TEST_SEED": "7",
        "COLUMNS": "400",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(REPOSITORY / "pyproject.toml"),
        "--rootdir",
        str(folder),
    ]
    command += ["-p", "no:cacheprovider", "-rA", str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=18
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("name", "words"), OUTCOMES.items(), ids=OUTCOMES)
def test_a_bad_test_is_found(report: str, name: str, words: str) -> None:
    told = [
        line for line in report.splitlines() if line.startswith(("FAILED", "ERROR")) and f"::{name}" in line
    ]

    assert told, report[-3000:]
    assert any(words in line for line in told), told


@pytest.mark.parametrize("name", ["test_is_clean", "test_may_block"])
def test_a_good_test_passes(report: str, name: str) -> None:
    told = [line for line in report.splitlines() if f"::{name}" in line]

    assert [line.split()[0] for line in told] == ["PASSED"]


def test_the_run_tells_its_seed(report: str) -> None:
    assert "random seed: 7 (TEST_SEED=7 repeats it)" in report


def test_random_numbers_follow_the_seed(rng: random.Random, request: pytest.FixtureRequest) -> None:
    again = type(rng)(f"{request.config.getoption('hypothesis_seed')}:{request.node.nodeid}")

    assert rng.random() == again.random()


def test_the_same_shape_gives_the_same_model(tmp_path: Path) -> None:
    first, second = write_gguf(tmp_path / "1"), write_gguf(tmp_path / "2")

    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size == 450_784


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    first, second = write_gguf(tmp_path / "1", NORMAL), write_gguf(tmp_path / "2", OTHER)

    assert first.read_bytes() != second.read_bytes()


def test_a_cut_model_is_a_beginning(tmp_path: Path) -> None:
    cut = write_cut(tmp_path / "cut", size_bytes=3000)

    assert cut.stat().st_size == 3000
    assert cut.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("tiny", "registry.ollama.ai/library/tiny/latest"),
        ("tiny:q8", "registry.ollama.ai/library/tiny/q8"),
        ("me/tiny:q8", "registry.ollama.ai/me/tiny/q8"),
        ("127.0.0.1:5000/library/tiny", "127.0.0.1:5000/library/tiny/latest"),
    ],
)
def test_a_model_lies_where_ollama_looks(tmp_path: Path, name: str, place: str) -> None:
    assert manifest_path(tmp_path, name) == tmp_path / "manifests" / place


def test_an_installed_model_is_in_the_store(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "model")

    digest = install_model(tmp_path / "store", "tiny", gguf)

    assert blob_path(tmp_path / "store", digest).read_bytes() == gguf.read_bytes()
