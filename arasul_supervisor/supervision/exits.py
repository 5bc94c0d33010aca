"""How a generation ended, told in words: from its status, what it was told, and its last lines."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from arasul_supervisor.supervision.snapshot import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arasul_supervisor.supervision.child import ExitStatus
    from arasul_supervisor.supervision.ports import PortHolder
    from arasul_supervisor.supervision.strays import Stray


_BEHIND_A_SHELL: Final = 128 + signal.SIGKILL
"""What a wrapper script exits with when SIGKILL ended the engine that it waited for."""


def may_be_oom_kill(status: ExitStatus | None, told: str | None) -> bool:
    """True for a SIGKILL that was not ours: then the kernel's counter decides (facts/process.md §12)."""
    if status is None or told is not None:
        return False
    return status.signal == signal.SIGKILL or status.code == _BEHIND_A_SHELL


def exit_sentence(status: ExitStatus | None, told: str | None, *, is_oom_kill: bool = False) -> str:
    """Why it ended: what we did to it, or else what it did by itself.

    :param told: our own part in it, such as `asked to stop`
    """
    seen = status.sentence if status else "its exit status is unknown"
    if told is not None:
        return f"{told}; {seen}"
    if is_oom_kill:
        return f"{seen}: by the kernel's out-of-memory killer"
    if status is not None and status.code == 0:
        return "exited with code 0 without being asked to"
    return seen


def runner_oom_killed(name: str | None, *, is_certain: bool) -> str:
    """What became of a model's runner when memory ran out.

    :param name: the program, as in `llama-server`; None when it came and went unseen
    :param is_certain: False when the kernel's counter is that of the whole box
    """
    who = f"the model's runner ({name})" if name else "a process beside the engine, probably a model's runner"
    ended = "ended" if is_certain else "has probably ended"
    return (
        f"The kernel's out-of-memory killer {ended} {who}: memory is short on this box or in this container. "
        "Load a smaller model, set a smaller LLM_CONTEXT_LENGTH, or raise the memory limit."
    )


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
