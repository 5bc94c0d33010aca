"""The parts `engine` and `daemon` of `/api/stats`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arasul_supervisor.telemetry.mapped_figures import Mapped
    from arasul_supervisor.telemetry.process_figures import ProcessFigures, TreeFigures


@dataclass(frozen=True, slots=True)
class Processes:
    """What is known of our processes at `now_mono`; `tree` and `own` are None when too old, `age_s` is theirs.

    :param model_names: the names of each blob, sorted
    :param gpu_bytes: memory on all GPUs by pid, where a driver tells it
    """

    now_mono: float
    age_s: float | None
    tree: TreeFigures | None
    own: ProcessFigures | None
    mapped: Mapped
    model_names: Mapping[str, tuple[str, ...]]
    gpu_bytes: Mapping[int, int | None]

    def pss_bytes(self, members: Sequence[ProcessFigures]) -> int | None:
        """Of these together; None as soon as one is not known."""
        pss = self.mapped.pss
        if pss is None or pss.is_stale(self.now_mono):
            return None
        sizes = [pss.pss_bytes.get(member.identity) for member in members]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @property
    def pss_age_s(self) -> float | None:
        """Seconds since the round that `pss_bytes` are of."""
        pss = self.mapped.pss
        return None if pss is None else round(max(0.0, self.now_mono - pss.taken_mono), 3)


def engine_entry(known: Processes, engine_pid: int | None) -> dict[str, object]:
    """The tree as a whole and each runner in it. `runners` is None while the tree is unknown, [] when it has none."""
    tree = known.tree
    pss_bytes = known.pss_bytes(tree.members) if tree else None
    return {
        "pid": engine_pid,
        "rss_bytes": tree.rss_bytes if tree else None,
        "pss_bytes": pss_bytes,
        "pss_age_s": None if pss_bytes is None else known.pss_age_s,
        "processes": len(tree.members) if tree else None,
        "threads": tree.threads if tree else None,
        "open_fds": tree.open_fds if tree else None,
        "cpu_percent": tree.cpu_percent if tree else None,
        "runners": _runner_entries(known, tree.members) if tree else None,
        "age_s": known.age_s if tree else None,
    }


def daemon_entry(known: Processes) -> dict[str, object]:
    """The daemon itself, without its helpers."""
    own = known.own
    pss_bytes = known.pss_bytes((own,)) if own else None
    return {
        "pid": own.pid if own else None,
        "rss_bytes": own.rss_bytes if own else None,
        "pss_bytes": pss_bytes,
        "pss_age_s": None if pss_bytes is None else known.pss_age_s,
        "cpu_percent": own.cpu_percent if own else None,
        "threads": own.threads if own else None,
        "open_fds": own.open_fds if own else None,
        "age_s": known.age_s,
    }


def gpu_bytes_by_pid(gpus: Sequence[Mapping[str, object]]) -> Mapping[int, int | None]:
    """The memory of each process on all GPUs, from the entries `gpus[]`; None where one card does not tell it."""
    found: dict[int, int | None] = {}
    for gpu in gpus:
        processes = gpu.get("processes")
        for process in processes if isinstance(processes, (list, tuple)) else ():
            pid, size, before = process["pid"], process["memory_bytes"], found.get(process["pid"], 0)
            found[pid] = None if size is None or before is None else before + size
    return found


def _runner_entries(known: Processes, members: Sequence[ProcessFigures]) -> list[dict[str, object]]:
    models = known.mapped.models
    return [
        _runner_entry(known, member, models[member.identity].blob)
        for member in sorted(members, key=lambda member: member.pid)
        if member.identity in models
    ]


def _runner_entry(known: Processes, runner: ProcessFigures, blob: str | None) -> dict[str, object]:
    """All names of its blob, for they share one runner; the first stands for them."""
    names = known.model_names.get(blob or "", ())
    pss_bytes = known.pss_bytes((runner,))
    return {
        "pid": runner.pid,
        "model": names[0] if names else None,
        "models": list(names),
        "model_blob": blob,
        "cpu_percent": runner.cpu_percent,
        "rss_bytes": runner.rss_bytes,
        "pss_bytes": pss_bytes,
        "pss_age_s": None if pss_bytes is None else known.pss_age_s,
        "gpu_memory_bytes": known.gpu_bytes.get(runner.pid),
        "threads": runner.threads,
        "open_fds": runner.open_fds,
    }
