"""How a generation ended, told in words: from its status, what it was told, and its last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arasul_supervisor.supervision.snapshot import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.supervision.child import ExitStatus
    from arasul_supervisor.supervision.ports import PortHolder
    from arasul_supervisor.supervision.strays import Stray


def exit_sentence(status: ExitStatus | None, told: str | None) -> str:
    """Why it ended: what we did to it, or else what it did by itself.

    :param told: our own part in it, such as `asked to stop`
    """
    seen = status.sentence if status else "its exit status is unknown"
    if told is not None:
        return f"{told}; {seen}"
    if status is not None and status.code == 0:
        return "exited with code 0 without being asked to"
    return seen


def start_failure(
    explained: tuple[str, str] | None, reason: str, last_lines: Sequence[str], *, timed_out: bool
) -> Failure:
    """The failure of a start: the known cause that its last lines tell, else what was seen."""
    if explained is not None:
        return Failure(*explained)
    last = f" Its last line: {last_lines[-1]}" if last_lines else " It wrote no line."
    code = "start_timed_out" if timed_out else "start_failed"
    return Failure(code, f"The engine did not get ready: {reason}.{last}")


def with_holder(failure: Failure, port: int, holder: PortHolder | None) -> Failure:
    """The same failure, with the name of who holds the port, where somebody still does."""
    if holder is None:
        return failure
    return Failure(
        failure.code,
        f"Port {port} is held by {holder.sentence}. Stop that program (for Ollama's own service: "
        "`systemctl disable --now ollama`), or set OLLAMA_HOST to another port.",
    )


def unkillable(survivors: Sequence[Stray]) -> Failure:
    """Processes of an old tree that SIGKILL does not end."""
    named = ", ".join(f"pid {stray.pid} ({stray.command}, waits on {stray.waits_on})" for stray in survivors)
    return Failure(
        "unkillable",
        f"Of an earlier engine {named or 'a process'} survives SIGKILL, so no new one is started beside it. "
        "It waits in the kernel, mostly on a GPU or a disk: when it does not end by itself, reboot.",
    )
