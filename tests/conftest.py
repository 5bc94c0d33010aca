"""The ground that every test stands on: its limits, its seed, its fixtures, and what it must leave as it was.

Fixtures for all: `free_port`, `rng`, `fake_engine`, `daemon`, `real_daemon`, `engine_binary`,
`bare_engine`, `model_files`, `tiny_model_store`, `registry`,
`small_disk`, `disk_of_2_mib`, `disk_without_holes`. Autouse: `own_folder_for_temporary_files`, `nothing_is_left`;
for async tests also `no_task_is_left` and `nothing_blocks`.
"""

from __future__ import annotations

import inspect
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.engine.daemon import daemon as daemon
from tests.engine.fake import fake_engine as fake_engine
from tests.engine.leaks import no_task_is_left as no_task_is_left
from tests.engine.leaks import nothing_blocks as nothing_blocks
from tests.engine.leaks import nothing_is_left as nothing_is_left
from tests.engine.processes import free_port as free_port
from tests.engine.real import bare_engine as bare_engine
from tests.engine.real import engine_binary as engine_binary
from tests.engine.real import real_daemon as real_daemon
from tests.engine.registry import registry as registry
from tests.engine.small_disks import disk_of_2_mib as disk_of_2_mib
from tests.engine.small_disks import disk_without_holes as disk_without_holes
from tests.engine.small_disks import small_disk as small_disk
from tests.engine.store import model_files as model_files
from tests.engine.store import tiny_model_store as tiny_model_store

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent
LIMITS_S = {"unit": 20, "property": 20, "integration": 20, "api": 180, "real": 180, "system": 180}
LONG_LIMIT_S = 3600
SEED = pytest.StashKey[int]()

settings.register_profile(
    "ours", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of this run, which Hypothesis uses too."""
    # A shell that starts us in the background has it ignored, and so had all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told = getattr(config, "workerinput", {}).get("seed") or os.environ.get("TEST_SEED")
    seed = int(told or random.SystemRandom().randrange(2**32))
    config.stash[SEED] = seed
    if not config.getoption("hypothesis_seed", None):
        config.option.hypothesis_seed = str(seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # Any: xdist's, which need not be there
    """Give each of the processes that share this run the same seed."""
    node.workerinput["seed"] = str(node.config.stash[SEED])


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to repeat this run."""
    return f"random seed: {config.stash[SEED]} (TEST_SEED={config.stash[SEED]} repeats it)"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time limit of its folder, and each async test its detectors."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            is_long = item.get_closest_marker("long") is not None
            item.add_marker(pytest.mark.timeout(LONG_LIMIT_S if is_long else LIMITS_S.get(_folder(item), 20)))
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
            # in this order: the loop and its threads belong to what must be gone at the end
            item.fixturenames[:0] = ["nothing_is_left", "no_task_is_left", "nothing_blocks"]


@pytest.fixture(scope="session", autouse=True)
def own_folder_for_temporary_files() -> Iterator[None]:
    """What this process and its children leave there is not taken for what a process beside it left."""
    with tempfile.TemporaryDirectory(prefix="tests-") as folder, pytest.MonkeyPatch.context() as patch:
        os.chmod(folder, 0o755)  # some tests act as another user
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that the seed of the run repeats."""
    return random.Random(f"{request.config.stash[SEED]}:{request.node.nodeid}")


def _folder(item: pytest.Item) -> str:
    path = item.path
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""
