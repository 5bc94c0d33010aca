"""Programs of others that a bench runs, taken from Debian's or PyPI's packages into `.cache/bench`, installed nowhere.

A Debian package and the libraries that it needs are fetched by `apt-get download` and unpacked by `dpkg -x`, which
needs no root; where the lists of packages are missing or old, lists of our own are fetched beside them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.machine import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CACHE: Final = REPOSITORY / ".cache" / "bench"
DEBIAN: Final[Mapping[str, tuple[str, ...]]] = {
    "wrk": ("wrk",),
    "runsv": ("runit",),
    "s6-supervise": ("s6", "execline"),
}
"""By program, the packages that hold it and what it calls."""
_LIBRARY: Final = re.compile(r"lib[a-z0-9][a-z0-9.+-]*")
_FETCH_LIMIT_S: Final = 120


class CannotFetch(Exception):
    """Why a program cannot be had here, as a sentence."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs from where it was unpacked. `version`: of its package, as the package source gives it."""

    path: Path
    version: str
    libraries: tuple[Path, ...] = ()

    def command(self, *words: str) -> list[str]:
        """The program and its arguments; to be run with `environment` beside the caller's own variables."""
        return [str(self.path), *words]

    @property
    def environment(self) -> dict[str, str]:
        """What it needs in its environment to find its libraries."""
        return {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))} if self.libraries else {}


def debian_program(name: str) -> Program | None:
    """A program of `DEBIAN`, else the one of that name on the PATH; None where neither is to be had (see `why_not`)."""
    try:
        return _debian_program(name)
    except CannotFetch:
        found = shutil.which(name)
        return Program(Path(found), "as installed") if found else None


def why_not(name: str) -> str:
    """Why `debian_program` has nothing under that name, as a sentence; empty where it has."""
    try:
        _debian_program(name)
    except CannotFetch as error:
        return "" if shutil.which(name) else str(error)
    return ""


def python_program(package: str, name: str) -> Program:
    """The command `name` of a PyPI package, in a virtual environment that all such packages share.

    :raises CannotFetch: pip could not install it
    """
    venv = CACHE / "venv"
    python = venv / "bin" / "python"
    with _locked("venv"):
        if not python.exists():
            _run([sys.executable, "-m", "venv", str(venv)])
        version = _version_in(python, package)
        if not version:
            _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])
            version = _version_in(python, package)
    return Program(venv / "bin" / name, version)


def _debian_program(name: str) -> Program:
    packages = DEBIAN[name]
    tree = CACHE / "debian" / packages[0]
    with _locked(packages[0]):
        if not tree.is_dir():
            _fetch(packages, tree)
    found = next((path for path in tree.rglob(name) if path.is_file() and os.access(path, os.X_OK)), None)
    if found is None:
        raise CannotFetch(f"the package {packages[0]} holds no program {name}.")
    libraries = tuple(sorted({path.parent for path in tree.rglob("lib*.so.*")}))
    version = (tree / "version").read_text(encoding="utf-8")
    return Program(found, version, libraries)


def _fetch(packages: tuple[str, ...], tree: Path) -> None:
    """Unpack them and their libraries into one tree, with the version of the first in the file `version`."""
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-query") if shutil.which(tool) is None]
    if missing:
        raise CannotFetch(f"{packages[0]} is fetched as a Debian package, which needs {', '.join(missing)}.")
    part = tree.with_name(f"{tree.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    apt: tuple[str, ...] = ()
    try:
        _download(packages, part, apt)
    except CannotFetch:
        apt = _own_lists()
        _download(packages, part, apt)
    for archive in part.glob("*.deb"):
        if archive.name.startswith(f"{packages[0]}_"):
            version = _run(["dpkg-deb", "--field", str(archive), "Version"]).strip()
            (part / "version").write_text(version, encoding="utf-8")
        _run(["dpkg", "--extract", str(archive), str(part)])
        archive.unlink()
    part.rename(tree)


def _download(packages: tuple[str, ...], folder: Path, apt: tuple[str, ...]) -> None:
    wanted = [*packages, *_missing_libraries(packages, apt)]
    _run(["apt-get", *apt, "--quiet", "download", *wanted], folder)


def _missing_libraries(packages: tuple[str, ...], apt: tuple[str, ...]) -> list[str]:
    """The libraries that they depend on, each in its turn too, without those that are installed."""
    todo, found = list(packages), dict.fromkeys(packages)
    while todo:
        for name in libraries_in(_run(["apt-cache", *apt, "depends", "--important", todo.pop()])):
            if name not in found and not _is_installed(name):
                todo.append(name)
                found[name] = None
    return [name for name in found if name not in packages]


# wrk
#   Depends: libc6
#  |Depends: libluajit-5.1-2
#   Depends: libluajit2-5.1-2
#   Depends: <virtual>
def libraries_in(text: str) -> list[str]:
    """The names of libraries in what `apt-cache depends` prints; of alternatives the last."""
    named = (line.partition("Depends: ") for line in text.splitlines() if not line.startswith(" |"))
    return [name for before, _, name in named if not before.strip() and _LIBRARY.fullmatch(name)]


def _is_installed(package: str) -> bool:
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout == "installed"


def _own_lists() -> tuple[str, ...]:
    """Fetch today's lists of the configured sources, without root; the options that make apt use them."""
    folder = CACHE / "apt"
    for each in ("lists/partial", "archives/partial"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    options = (
        "-oAPT::Sandbox::User=",
        f"-oDir::State::lists={folder / 'lists'}",
        f"-oDir::Cache={folder}",
        f"-oDir::Cache::archives={folder / 'archives'}",
    )
    _run(["apt-get", *options, "--quiet", "update"])
    return options


def _version_in(python: Path, package: str) -> str:
    """The version of a package that is installed there; empty where it is not."""
    script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    asked = subprocess.run(
        [python, "-c", script, package], capture_output=True, text=True, check=False, cwd=CACHE
    )
    return asked.stdout.strip()


def _run(command: list[str], folder: Path | None = None) -> str:
    """What the command prints.

    :raises CannotFetch: it cannot be run, failed, or took too long
    """
    try:
        ran = subprocess.run(
            command,
            cwd=folder or CACHE,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_FETCH_LIMIT_S,
        )
    except subprocess.CalledProcessError as error:
        raise CannotFetch(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotFetch(f"`{' '.join(command)}`: {error}") from error
    return ran.stdout


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
