"""Ollama's API as far as the daemon itself uses it, with errors of ours. `§` is facts/ollama.md."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from arasul_supervisor.errors import EngineRefused
from arasul_supervisor.ollama import answers
from arasul_supervisor.ollama.pull_errors import pull_error
from arasul_supervisor.ollama.pull_lines import SUCCESS, LineSplitter, PullError, PullLine, parse_line
from arasul_supervisor.ollama.retry import RETRY_WAITS_S
from arasul_supervisor.ollama.transport import Call, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from arasul_supervisor.clock import Clock
    from arasul_supervisor.ollama.models import InstalledModel, LoadedModel


class OllamaClient:
    """One Ollama at one address. Every call raises EngineDown, EngineSilent or EngineRefused when it must."""

    def __init__(self, base_url: str, clock: Clock) -> None:
        self._transport = Transport(base_url, clock)

    async def tags(self, *, timeout_s: float) -> list[InstalledModel]:
        """The installed models, newest first; one with a missing blob is among them (facts §3.1)."""
        call = Call("GET", "/api/tags", "list the models", retry_waits_s=RETRY_WAITS_S)
        return answers.installed_models(await self._transport.exchange(call, timeout_s=timeout_s))

    async def ps(self, *, timeout_s: float) -> list[LoadedModel]:
        """The loaded models; one that is still loading is not among them (facts §3.2)."""
        call = Call("GET", "/api/ps", "list the loaded models", retry_waits_s=RETRY_WAITS_S)
        return answers.loaded_models(await self._transport.exchange(call, timeout_s=timeout_s))

    async def show(self, name: str, *, timeout_s: float) -> Mapping[str, object]:
        """All that Ollama knows of one model.

        :raises ModelNotFound: when it is not installed
        """
        call = Call("POST", "/api/show", f"show '{name}'", {"model": name})
        return answers.json_object(
            await self._transport.exchange(call, timeout_s=timeout_s), purpose=call.purpose
        )

    async def unload(self, name: str, *, timeout_s: float) -> None:
        """Asks for the unload of one model; that it was answered proves nothing (§4.1).

        :raises ModelNotFound: when it is not installed; it may be loaded all the same
        """
        call = Call(
            "POST",
            "/api/generate",
            f"unload '{name}'",
            {"model": name, "keep_alive": 0, "stream": False},
            retry_waits_s=RETRY_WAITS_S,
        )
        await self._transport.exchange(call, timeout_s=timeout_s)

    async def load(self, name: str, *, keep_alive_s: int, options: Mapping[str, int]) -> None:
        """Loads one model and returns when Ollama says so; the caller bounds it.

        :param keep_alive_s: not 0, which means unload; negative keeps it for ever
        :param options: runner options; best none, they reload what others loaded without (§4.3)
        :raises ModelNotFound: when it is not installed
        """
        body: dict[str, object] = {"model": name, "keep_alive": keep_alive_s, "stream": False}
        if options:
            body["options"] = dict(options)
        purpose = f"load '{name}'"
        try:
            await self._transport.exchange(Call("POST", "/api/generate", purpose, body), timeout_s=None)
        except EngineRefused as refusal:
            if "does not support generate" not in refusal.sentence:
                raise
            # {"error":"\"x\" does not support generate"}: for embeddings only, loaded by its own path.
            await self._transport.exchange(Call("POST", "/api/embed", purpose, body), timeout_s=None)

    async def delete(self, name: str, *, timeout_s: float) -> None:
        """Removes one model; a loaded one stays loaded and can then no longer be unloaded (§3.5).

        :raises ModelNotFound: when it is not installed
        """
        call = Call("DELETE", "/api/delete", f"delete '{name}'", {"model": name})
        await self._transport.exchange(call, timeout_s=timeout_s)

    async def copy(self, source: str, destination: str, *, timeout_s: float) -> None:
        """Gives a model a second name; costs no disk.

        :raises ModelNotFound: when the source is not installed
        """
        call = Call(
            "POST",
            "/api/copy",
            f"copy '{source}' to '{destination}'",
            {"source": source, "destination": destination},
        )
        await self._transport.exchange(call, timeout_s=timeout_s)

    async def pull(self, name: str, *, insecure: bool) -> AsyncGenerator[PullLine, None]:
        """The lines of a pull as Ollama sends them; ends after `success`, and only then.

        Has no bound: a registry may be silent for ever (§0.8), which `pulls/run.py` looks after.

        :raises ArasulError: what made it fail, see `pull_errors`
        """
        call = Call(
            "POST", "/api/pull", f"pull '{name}'", {"model": name, "insecure": insecure, "stream": True}
        )
        splitter = LineSplitter()
        async with aclosing(self._transport.stream(call)) as chunks:
            async for chunk in chunks:
                for raw in splitter.feed(chunk):
                    line = _pull_line(raw, name)
                    yield line
                    if line.status == SUCCESS:
                        return
        for raw in splitter.rest():
            line = _pull_line(raw, name)
            yield line
            if line.status == SUCCESS:
                return
        raise EngineRefused(f"Ollama ended the pull of '{name}' without saying that it succeeded.")

    async def close(self) -> None:
        """Closes the connections that are open."""
        await self._transport.close()


def _pull_line(raw: bytes, name: str) -> PullLine:
    line = parse_line(raw)
    if isinstance(line, PullError):
        raise pull_error(line.text, name)
    return line
