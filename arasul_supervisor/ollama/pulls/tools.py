"""What the runs of all pulls share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.model_store.reader import StoreReader
    from arasul_supervisor.ollama.catalogue import Catalogue
    from arasul_supervisor.ollama.client import OllamaClient
    from arasul_supervisor.ollama.pulls.others import Others
    from arasul_supervisor.ollama.pulls.registry import Registry
    from arasul_supervisor.ollama.pulls.slots import Slots
    from arasul_supervisor.ollama.pulls.stall import PullLimits


@dataclass(frozen=True, slots=True)
class PullTools:
    """What the runs of all pulls share.

    `wait_until_open` returns when the engine is ready and no pause is on. `others` are the other pulls. `open_files`
    tells the absolute paths below a folder that the engine has open, and blocks. `slot_lent` gives the caller's slot
    to the next. `suggest` is a hint for a name that the registry does not know. `after_change` is called when what is
    installed has changed, `noted` when what is kept of a job has; `noted_now` also waits until that is on disk.
    """

    client: OllamaClient
    catalogue: Catalogue
    registry: Registry
    store: StoreReader
    clock: Clock
    limits: PullLimits
    others: Others
    open_files: Callable[[Path], Collection[str]]
    wait_until_open: Callable[[], Awaitable[None]]
    slots: Slots
    slot_lent: Callable[[], None]
    suggest: Callable[[str], str | None]
    after_change: Callable[[], None]
    noted: Callable[[], None]
    noted_now: Callable[[], Awaitable[None]]
