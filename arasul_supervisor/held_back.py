"""Modules that the daemon does without, though what it stands on would import them: memory for nothing.

Its libraries import each of them only if it is there, and None in `sys.modules` makes it absent (language reference,
"The import system", §5.3.1). Only `run` does this: the commands draw with rich, and TLS is for a child
(`ollama/pulls/registry_child.py`). Resident memory of the idle daemon without them, Python 3.11, x86-64, 2026-11-29:

    all there                     53.0 MiB
    rich, pygments                49.9    structlog would draw its tracebacks with them; ours are text already
    ssl                           46.2    for asyncio and aiohttp, which reads all certificates at its import
    OpenSSL's hashes              42.8    hashlib has its own, five times slower: see `fast_sha256`
    frozenlist in C++             41.7    the only one that needs libstdc++; in Python it is slower at what nobody does
    bz2, lzma                     41.4    for archives that shutil could unpack
"""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, PathFinder  # not importlib.util: 2 ms before the spawn
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from hashlib import _Hash
    from types import ModuleType

HELD_BACK: Final = ("rich", "pygments", "ssl", "_ssl", "frozenlist._frozenlist", "bz2", "lzma")
OPENSSL: Final = "_hashlib"

_OWN_HASHES: Final = ("_md5", "_sha1", "_sha3", "_blake2") + (
    ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")
)
"""hashlib's, without OpenSSL. Some distributions build Python without them."""


def hold_back() -> None:
    """Make them absent in this process from now on, except those that are imported already."""
    has_own_hashes = all(_is_there(name) for name in _OWN_HASHES)
    for name in (*HELD_BACK, OPENSSL) if has_own_hashes else HELD_BACK:
        _modules().setdefault(name, None)


def _is_there(name: str) -> bool:
    return (BuiltinImporter.find_spec(name) or PathFinder.find_spec(name)) is not None


def fast_sha256() -> _Hash:
    """A new SHA-256 of OpenSSL's, which is loaded now and stays: 4 MiB; hashlib's where OpenSSL has none.

    For gigabytes: 1.7 GB/s where hashlib's own makes 0.3 (3.10 to 3.13, x86-64). Loads a library, so not for the loop.
    """
    modules = _modules()
    if OPENSSL in modules and modules[OPENSSL] is None:
        del modules[OPENSSL]
    try:
        from _hashlib import openssl_sha256 as sha256
    except ImportError:
        from hashlib import sha256
    return sha256()


def _modules() -> dict[str, ModuleType | None]:
    return cast("dict[str, ModuleType | None]", sys.modules)  # cast: None is known to the import system only
