"""What a child has of the source that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Connection(NamedTuple):  # not a dataclass: importing dataclasses costs the NVML child 2 MiB
    """What a source gives when it is opened.

    `hello` is the first line, `{"kind":"ready",…}` or `{"kind":"failed","code":…}`; `sample` makes one line
    `{"kind":"sample","code":0,"gpus":[…]}` at that monotonic instant, None when nothing can be asked.
    """

    hello: Mapping[str, object]
    sample: Callable[[float], Mapping[str, object]] | None
