"""One Debian file system for all homes: the base of our image, and the tree that systemd is booted from.

It is made once by mmdebstrap and kept outside the repository, in `$XDG_CACHE_HOME/arasul-supervisor/system-base`.
It holds the certificates of this machine: nothing built on it may be published.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE: Final = "bookworm"
PACKAGES: Final = (
    "systemd,systemd-sysv,dbus,python3,python3-venv,python3-pip,ca-certificates,procps,iproute2,curl,libgomp1"
)
HOST_CERTIFICATES: Final = Path("/etc/ssl/host-ca.crt")
"""Where the base holds the certificates of this machine: pip inside an image needs them behind its proxy."""
_TRIMMED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_CUSTOMIZE: Final = 'cp -L /etc/ssl/certs/ca-certificates.crt "$1"/etc/ssl/host-ca.crt'
_BUILD_LIMIT_S: Final = 170


def need(what: str, *programs: str) -> None:
    """Skip the test, loudly, where root or one of the programs is missing; in CI that is a failure.

    :param what: what stays untested, as in `the daemon under systemd`
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        leave_out(
            f"{what}: that needs {' and '.join(missing)} (`make test-system` as root installs programs)"
        )


def leave_out(what: str) -> NoReturn:
    """Skip the test, loudly; in CI nothing may be left out, so there it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"In CI every home is tested, but not {what}.")
    pytest.skip(f"NOT TESTED: {what}")


def base_tarball() -> Path:
    """The base as a `.tar.zst`; made now (25 s) where the cache does not hold it.

    :raises subprocess.CalledProcessError: mmdebstrap failed; its words are in the error's output
    """
    target = _folder() / "base.tar.zst"
    with _locked(target.parent):
        if not target.exists():
            _build(target)
    return target


def base_folder() -> Path:
    """The base unpacked, for guests that write into an overlay of their own; nobody may write here."""
    tarball = base_tarball()
    folder = tarball.parent / "rootfs"
    with _locked(tarball.parent):
        if not folder.exists():
            part = tarball.parent / "rootfs.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            subprocess.run(["tar", "-C", part, "--zstd", "-xpf", tarball], check=True)
            part.rename(folder)
    return folder


def _build(target: Path) -> None:
    part = target.with_name("base.part.tar.zst")
    excludes = [f"--dpkgopt=path-exclude={pattern}" for pattern in _TRIMMED]
    command = [
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", *excludes,
        f"--customize-hook={_CUSTOMIZE}", RELEASE, str(part),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=_BUILD_LIMIT_S, stdin=subprocess.DEVNULL)
    part.rename(target)


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(repr((RELEASE, PACKAGES, _TRIMMED, _CUSTOMIZE)).encode()).hexdigest()[:12]
    folder = cache / "arasul-supervisor" / "system-base" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
