"""A small client of the daemon's own HTTP API, of the standard library alone.

`http.client` knows nothing of proxies, so `http_proxy` in a container's environment cannot send a health
check astray; and it is the lightest one there is, which `health` pays for at each call.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

from arasul_supervisor import __version__
from arasul_supervisor.errors import ArasulError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

ANSWER_TIMEOUT_S: Final = 5.0  # the slowest read of the API is bound to 3 s
DEFAULT_PORT: Final = 11436
EXAMPLE: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
WILDCARDS: Final = ("", "0.0.0.0", "::", "*")


class BadUrl(ArasulError):
    """The daemon's address is not understood."""

    exit_code: ClassVar[int] = 2


class DaemonError(ArasulError):
    """The daemon could not be asked, or refused."""


class Unreachable(DaemonError):
    """There is no daemon to talk to."""


class Silent(DaemonError):
    """The daemon is there but sends nothing."""


class Refused(DaemonError):
    """The daemon answered with an error; `key` is the `code` in its body, empty where it has none."""

    def __init__(self, sentence: str, *, key: str = "") -> None:
        super().__init__(sentence)
        self.key = key


class Answer(NamedTuple):  # not a dataclass: importing dataclasses costs 9 ms of a health check
    """The status of an HTTP answer and the JSON object in its body."""

    status: int
    body: Mapping[str, object]

    @property
    def is_ok(self) -> bool:
        """True for a 2xx."""
        return 200 <= self.status < 300


class Daemon:
    """The daemon at one address. Every call opens a connection of its own and closes it."""

    def __init__(self, url: str) -> None:
        """Takes `http://host:port`, `https://…`, with a path or without, or a bare `host:port`.

        :raises BadUrl: when it is none of these
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError as problem:
            raise BadUrl(f"{url!r} is no address of a daemon ({problem}); an example: {EXAMPLE}.") from None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise BadUrl(f"{url!r} is no address of a daemon; an example: {EXAMPLE}.")
        if parts.username is not None:
            raise BadUrl("The daemon's address takes no user name and no password.")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port, self._prefix = host, port, parts.path.rstrip("/")

    def get(self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Mapping[str, object]:
        """The body of a successful GET.

        :raises DaemonError: for everything else
        """
        return accepted(self.ask("GET", path, timeout_s=timeout_s))

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """The answer to one request, whatever its status.

        :param timeout_s: seconds of silence after which the daemon is given up
        :raises DaemonError: when there is no answer, or one that is no JSON object
        """
        with self._response(method, path, body=body, timeout_s=timeout_s) as response:
            return Answer(response.status, self._object(response.read(), response.status))

    def stream(
        self, method: str, path: str, *, body: Mapping[str, object], timeout_s: float
    ) -> Iterator[Mapping[str, object]]:
        """The JSON objects of an answer that comes line by line.

        :param timeout_s: seconds without a byte after which `Silent` is raised
        :raises DaemonError: when it is refused, breaks off, or is not NDJSON
        """
        with self._response(method, path, body=body, timeout_s=timeout_s) as response:
            if response.status >= 300:
                accepted(Answer(response.status, self._object(response.read(), response.status)))
            for line in response:
                if line.strip():
                    yield self._object(line, response.status)

    @contextmanager
    def _response(
        self, method: str, path: str, *, body: Mapping[str, object] | None, timeout_s: float
    ) -> Iterator[HTTPResponse]:
        """An open response; what sockets and http.client raise becomes a DaemonError here, and only here."""
        connection = self._connection(self._host, self._port, timeout=timeout_s)
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "User-Agent": f"arasul-supervisor/{__version__}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._prefix + path, body=content, headers=headers)
            with connection.getresponse() as response:
                yield response
        except (OSError, HTTPException) as problem:
            raise self._sentence(problem, timeout_s=timeout_s) from None
        finally:
            connection.close()

    def _sentence(self, problem: OSError | HTTPException, *, timeout_s: float) -> DaemonError:
        match problem:
            case TimeoutError():
                return Silent(f"The daemon at {self.url} sent nothing for {timeout_s:g} s.")
            case ConnectionRefusedError():
                return Unreachable(
                    f"Nothing listens at {self.url}; start the daemon with `arasul-supervisor run`, "
                    "or give its address by --url or ARASUL_URL."
                )
            case socket.gaierror():
                return Unreachable(f"The host name in {self.url} is not known here.")
            case ConnectionError():
                return Unreachable(f"The daemon at {self.url} broke off the connection.")
            case OSError():
                return Unreachable(f"Cannot talk to {self.url}: {problem.strerror or problem}.")
            case _:
                return DaemonError(f"What answers at {self.url} broke off or does not speak HTTP.")

    def _object(self, content: bytes, status: int) -> Mapping[str, object]:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        raise DaemonError(
            f"What answers at {self.url} sent status {status} and no JSON object; is it the management port?"
        )


def daemon_of(args: argparse.Namespace) -> Daemon:
    """The daemon that `--url`, else ARASUL_URL names, else the one that these settings would start.

    :raises BadUrl: when the address is not understood
    """
    environ = os.environ
    return Daemon(args.url or environ.get("ARASUL_URL", "").strip() or _own_url(environ))


def _own_url(environ: Mapping[str, str]) -> str:
    """Where a daemon with this environment listens, so that `health` in its container finds a moved port."""
    host, port = (environ.get(name, "").strip() for name in ("ARASUL_HOST", "ARASUL_PORT"))
    host = "127.0.0.1" if host.strip("[]") in WILDCARDS else host.strip("[]")
    return f"http://{f'[{host}]' if ':' in host else host}:{port or DEFAULT_PORT}"


def accepted(answer: Answer) -> Mapping[str, object]:
    """The body of an answer that is no error.

    :raises Refused: with the daemon's own sentence otherwise
    """
    if answer.is_ok:
        return answer.body
    raise refusal_in(answer.body, otherwise=f"HTTP status {answer.status}.")


def refusal_in(body: Mapping[str, object], *, otherwise: str) -> Refused:
    """The daemon's own words for what went wrong, or these where it has none."""
    sentence, key = body.get("error"), body.get("code")
    return Refused(
        sentence if isinstance(sentence, str) and sentence else otherwise,
        key=key if isinstance(key, str) else "",
    )


def objects(body: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """The JSON objects in a list of an answer; nothing when there is no such list."""
    values = body.get(key)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
