"""Our own look at a model's manifest in its registry, before Ollama pulls it: what there is to fetch.

Only a look: Ollama asks for the manifest itself and stores it as it was sent to it. A digest of the manifest is
neither sent nor checked by anyone (facts/ollama.md §9), and a tag may move between the two.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from yarl import URL

from arasul_supervisor.errors import RegistryError
from arasul_supervisor.line_child.process import ChildEnded, ChildProcess, ChildSilent
from arasul_supervisor.model_store.manifests import parse_manifest
from arasul_supervisor.ollama.pull_errors import RegistryTrouble
from arasul_supervisor.settings.model_names import name_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.event_log import EventLog
    from arasul_supervisor.model_store.manifests import Manifest

LOOK_S: Final = 10.0
MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024
MAX_WAIT_S: Final = 600.0

_PROGRAM: Final = Path(__file__).with_name("registry_child.py")
_FOLDER_OF_PACKAGE: Final = str(Path(__file__).parents[3])
_FAREWELL_S: Final = 0.2  # a healthy child is gone 2 ms after SIGKILL
_ASKS_TO_WAIT: Final = frozenset({429, 503})


class RegistryAsksToWait(RegistryTrouble):
    """The registry has too much to do and says when to come back."""

    def __init__(self, host: str, status: int, wait_s: float) -> None:
        super().__init__(f"The registry {host} answers {status} and asks to wait {wait_s:.0f} s.")
        self.wait_s = wait_s


class NoManifest(RegistryError):
    """What the registry sends as a manifest is larger than any."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"What the registry {host} sends as the model's manifest is longer than {MAX_MANIFEST_BYTES} bytes.",
            hint="No model has such a one, and Ollama would read it again at each list of its models.",
        )


class Registry:
    """Looks into registries; each look in a child of its own (`registry_child.py`), which is killed when it is over."""

    def __init__(
        self,
        clock: Clock,
        log: EventLog,
        *,
        own: Callable[[int], None],
        disown: Callable[[int], None],
        timeout_s: float = LOOK_S,
        program: Path = _PROGRAM,
    ) -> None:
        """Start nothing yet.

        :param own: told a child's pid in the same synchronous stretch as its spawn
        :param disown: told it when the child is reaped here, or left to whoever reaps orphans
        :param timeout_s: bound of a whole look, the start of its child and redirects and all
        :param program: what the child runs
        """
        self._clock, self._log = clock, log
        self._own, self._disown = own, disown
        self._timeout_s, self._program = timeout_s, program
        self._children: set[ChildProcess] = set()

    async def manifest(self, name: str, *, is_insecure: bool) -> Manifest | None:
        """What the registry has under this name; None when that cannot be learned: then Ollama decides.

        :param name: a well-formed model name
        :param is_insecure: ask by plain http; by https otherwise, whatever scheme stands in the name (§9)
        :raises NoManifest: it sends what is none, without end: Ollama would take it into its memory
        :raises RegistryAsksToWait: it said so, with 429 or 503 and a Retry-After
        """
        try:
            url = manifest_url(name, is_insecure=is_insecure)
            answer = await self._ask(url, is_insecure=is_insecure)
            if answer.get("status") == 200:
                return parse_manifest(b64decode(answer["body"]))
        except ValueError:
            return None  # Ollama meets the same, and says it to whoever asked for the pull
        if "endless" in answer:
            raise NoManifest(answer["endless"])
        wait_s = wait_asked(answer.get("retry_after", ""), now_wall=self._clock.wall())
        if answer.get("status") in _ASKS_TO_WAIT and wait_s is not None:
            raise RegistryAsksToWait(url.authority, answer["status"], wait_s)
        return None

    async def close(self) -> None:
        """Ends the looks that are under way."""
        for child in tuple(self._children):
            await child.end(timeout_s=_FAREWELL_S)
            child.let_go()

    async def _ask(self, url: URL, *, is_insecure: bool) -> dict[str, Any]:  # Any: JSON of our own child
        """What the child says, see `registry_look.look`; empty when it says nothing."""
        request = {"url": str(url), "is_insecure": is_insecure, "max_bytes": MAX_MANIFEST_BYTES}
        try:
            child = self._spawn()
        except OSError as error:
            self._log.warning("registry_look_failed", error=str(error))
            return {}
        child.ask(msgspec.json.encode(request))  # not in its arguments, which everybody may read
        try:
            answer = await child.line(timeout_s=self._timeout_s)
        except ChildSilent:
            return {}
        except ChildEnded as error:
            self._log.warning("registry_look_failed", error=str(error))
            return {}
        finally:
            child.kill()
        if "failed" in answer:
            self._log.warning("registry_look_failed", error=answer["failed"])
        return answer

    def _spawn(self) -> ChildProcess:
        """A child that waits for its request.

        :raises OSError: no process or descriptor left
        """
        child = ChildProcess(
            (sys.executable, "-I", str(self._program), str(os.getpid()), *sys.path, _FOLDER_OF_PACKAGE),
            source="registry",
            own=self._own,
            disown=self._disown,
            max_line_bytes=2 * MAX_MANIFEST_BYTES,  # in base64 it is a third longer
        )
        self._children.add(child)
        child.ended.add_done_callback(lambda _ended: self._children.discard(child))
        return child


def manifest_url(name: str, *, is_insecure: bool) -> URL:
    """`https://registry.ollama.ai/v2/library/tiny/manifests/latest` for `tiny`; in the case in which it is written.

    :raises ValueError: no address can be made of it, such as for port 99999
    """
    host, namespace, model, tag = name_parts(name)
    scheme = "http" if is_insecure else "https"
    return URL(f"{scheme}://{host}/v2/{namespace}/{model}/manifests/{tag}")


def wait_asked(retry_after: str, *, now_wall: float) -> float | None:
    """Seconds that a Retry-After header asks for, 600 at most; None where it says nothing. Pure.

    `30`, or `Fri, 31 Dec 1999 23:59:59 GMT`.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait_s = float(text)
    else:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - now_wall
        except (ValueError, OverflowError):
            return None
    return min(MAX_WAIT_S, max(0.0, wait_s))
