"""Guards facts/gpu.md §8.8: whatever befalls the files of a board, each figure is what the well board says, or null.

A recorded tree is laid out once; Hypothesis spoils any subset of its files in any way, and mends it again.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from arasul_supervisor.telemetry.gpu.launch import look_for_driver
from arasul_supervisor.telemetry.gpu.launch_memory import cards_by_driver, memory_of
from tests.engine.board_trees import laid_out
from tests.engine.spoiled_tree import KINDS, SpoiledTree, seen_by_nobody
from tests.engine.telemetry_looks import Looker, figures_of, wrong_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PHASES: Final = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
)  # to shrink by looks at a tree outlasts the test
LIMIT_S: Final = 10.0  # 20 ms for a well tree, 3 s with 10 MB in each file; what is not linear takes minutes
MAX_LINE_BYTES: Final = 1024 * 1024  # of what the daemon takes from its child
BOARDS: Final = (("jetson-agx-orin-jp6", "busy"), ("jetson-thor-jp7", "busy"), ("x86-one-gpu",))
BESIDE: Final = {  # what every host has, and the recordings lack
    "proc/loadavg": "0.20 0.18 0.12 1/80 11206\n",
    "proc/pressure/memory": "some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459\n"
    "full avg10=0.12 avg60=0.07 avg300=0.11 total=28761459\n",
    "proc/vmstat": "nr_free_pages 9778304\noom_kill 3\n",
    "proc/self/cgroup": "0::/system.slice/arasul.service\n",
    "proc/self/mountinfo": "620 535 0:61 / / rw,relatime master:180 - ext4 /dev/sda rw\n",
    "sys/fs/cgroup/system.slice/arasul.service/memory.max": "34359738368\n",
    "sys/fs/cgroup/system.slice/arasul.service/memory.current": "2919235584\n",
    "sys/fs/cgroup/system.slice/arasul.service/memory.events": "oom 2\noom_kill 1\n",
    "sys/fs/cgroup/system.slice/arasul.service/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/system.slice/arasul.service/pids.max": "4096\n",
    "sys/fs/cgroup/system.slice/arasul.service/pids.current": "77\n",
    "sys/kernel/debug/nvmap/iovmm/clients": "CLIENT PROCESS PID SIZE\nuser ollama 1234 16640K\n"
    "user ollama 1300 23G\ntotal 23549320K\n",
}
WITHOUT_A_FIGURE: Final = (  # what nobody could read a number from
    *("missing", "empty", "one NUL", "10 MB of x", "folder", "dangling link"),
    *("link to itself", "EAGAIN", "FIFO without a writer", "mode 000", "folder of mode 000"),
)
BESIDE_FIGURES: Final = ("/container", "/stale", "_kept_age_s/")  # what follows from the absence of a file


@pytest.fixture(scope="module", params=BOARDS, ids=lambda names: names[0])
def tree(request: pytest.FixtureRequest) -> Iterator[SpoiledTree]:
    """One board for all tests of this file: every test mends what it spoils."""
    name, *states = request.param
    patch = pytest.MonkeyPatch()
    patch.setattr("arasul_supervisor.telemetry.gpu.tegra_node._BETWEEN_LOOKS_S", 0.0)
    with tempfile.TemporaryDirectory() as folder, laid_out(name, Path(folder) / "root", *states) as root:
        Path(folder).chmod(0o755)  # for nobody to see
        for entry, text in BESIDE.items():
            (root / entry).parent.mkdir(parents=True, exist_ok=True)
            (root / entry).write_text(text)
        (Path(folder) / "aside").mkdir()
        yield SpoiledTree.of(root, Path(folder) / "aside")
    patch.undo()


def faults(*kinds: str) -> st.SearchStrategy[Any]:
    """Numbers to pick entries by, and the ways to spoil them: a few entries, or a share of all."""
    few = st.dictionaries(st.integers(0, 999), st.sampled_from(kinds), max_size=8)
    share = st.tuples(
        st.sampled_from((0.1, 0.5, 1.0)), st.lists(st.sampled_from(kinds), min_size=1, max_size=4)
    )
    return st.one_of(few, st.tuples(share, st.randoms(use_true_random=False)))


def chosen(tree: SpoiledTree, drawn: Any) -> dict[str, str]:
    """The entries that are spoiled, with the way."""
    if isinstance(drawn, dict):
        return {tree.entries[number % len(tree.entries)]: kind for number, kind in drawn.items()}
    (share, kinds), random = drawn
    files = [entry for entry in tree.entries if not (tree.root / entry).is_symlink()]
    return {entry: random.choice(kinds) for entry in files if random.random() < share}


def looks(tree: SpoiledTree, spoiled: Mapping[str, str]) -> tuple[Any, list[Any], Any]:
    """What is told before, while and after these entries are spoiled; a fresh daemon looks at it, too."""
    looker, fresh = Looker(tree.root), Looker(tree.root)
    before = looker.look(0.0)
    with tree.spoiled(spoiled), seen_by_nobody():
        began = time.monotonic()
        told = [looker.look(5.0), looker.look(70.0), fresh.look(0.0)]
        assert max(looker.line_bytes, fresh.line_bytes) < MAX_LINE_BYTES
        assert fresh.report is not None
        memory_of(fresh.report.readings, tree.root)
        took_s = time.monotonic() - began
    assert took_s < LIMIT_S, f"{took_s:.1f} s"
    looker.look(135.0)
    return before, told, looker.look(140.0)


@settings(max_examples=12, phases=PHASES)
@given(drawn=faults(*KINDS))
def test_every_figure_is_of_its_type_or_null_and_nothing_is_raised(tree: SpoiledTree, drawn: Any) -> None:
    before, told, after = looks(tree, chosen(tree, drawn))

    assert [wrong for one in (before, *told, after) for wrong in wrong_types(one)] == []
    assert figures_of(after) == figures_of(before)  # nothing of it lasts


@settings(max_examples=12, phases=PHASES)
@given(drawn=faults(*WITHOUT_A_FIGURE))
def test_a_file_without_a_figure_makes_none_up(tree: SpoiledTree, drawn: Any) -> None:
    before, told, _ = looks(tree, chosen(tree, drawn))

    well = figures_of(before)
    assert [
        (path, value)
        for one in told
        for path, value in figures_of(one).items()
        if isinstance(value, int | float)
        and value != well.get(path)
        and not any(word in path for word in BESIDE_FIGURES)
    ] == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_fault_in_all_files_at_once_is_survived(tree: SpoiledTree, kind: str) -> None:
    files = [entry for entry in tree.entries if not (tree.root / entry).is_symlink()]
    before, told, after = looks(tree, dict.fromkeys(files, kind))

    assert [wrong for one in told for wrong in wrong_types(one)] == []
    assert figures_of(after) == figures_of(before)


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_of_the_kernel_spoiled_alone_is_survived(tree: SpoiledTree, kind: str) -> None:
    alone = [entry for entry in tree.entries if not entry.startswith(("sys/devices", "sys/class"))]

    wrong = {entry: wrong_types(told_of(tree, {entry: kind})) for entry in alone}

    assert {entry: found for entry, found in wrong.items() if found} == {}


def told_of(tree: SpoiledTree, spoiled: Mapping[str, str]) -> Any:  # Any: JSON
    """What a daemon tells that starts on it."""
    with tree.spoiled(spoiled), seen_by_nobody():
        look_for_driver(tree.root)
        cards_by_driver(tree.root)
        return Looker(tree.root).look(0.0)
