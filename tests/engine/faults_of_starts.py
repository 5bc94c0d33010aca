"""Faults of the engine's start: it refuses, or it stands and every load fails."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine.fault_ground import Fault, nothing, variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.fault_ground import Ground, Start


def take_port(start: Start) -> None:
    """Somebody else listens on the engine's port."""
    holder = start.at_end.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", start.port))
    holder.listen()


def refuse_store(start: Start) -> None:
    """The store belongs to root and nobody may write there; root itself loses its right to do so all the same."""
    start.store = start.folder / "locked"
    start.store.mkdir(mode=0o500)
    start.environment["OLLAMA_MODELS"] = str(start.store)
    _without_roots_rights(start)


def refuse_home(start: Start) -> None:
    """HOME is not writable, and holds no key pair yet."""
    home = start.folder / "locked"
    home.mkdir(mode=0o500)
    start.environment["HOME"] = str(home)
    _without_roots_rights(start)


def store_is_a_file(start: Start) -> None:
    """The path of the store is a plain file."""
    start.store = start.folder / "file"
    start.store.write_bytes(b"")
    start.environment["OLLAMA_MODELS"] = str(start.store)


def take_llama_server_away(start: Start) -> None:
    """A copy of the engine's binary that has no llama-server beside it."""
    start.binary = Path(shutil.copy(start.binary, start.folder / "ollama"))


def wrap_llama_server(script: str) -> Callable[[Start], None]:
    """A preparation: a shell script in the place of llama-server; `$REAL` is the real one."""

    def prepare(start: Start) -> None:
        real = (start.binary.resolve().parents[1] / "lib" / "ollama" / "llama-server").resolve()
        for name in ("bin", "lib/ollama"):
            (start.folder / "engine" / name).mkdir(parents=True)
        start.binary = Path(shutil.copy(start.binary, start.folder / "engine" / "bin" / "ollama"))
        wrapper = start.folder / "engine" / "lib" / "ollama" / "llama-server"
        wrapper.write_text(
            f"#!/bin/sh\nREAL={real}\nexport LD_LIBRARY_PATH={real.parent}\n{script}\n", encoding="utf-8"
        )
        wrapper.chmod(0o755)

    return prepare


def load(ground: Ground) -> None:
    """What a user notices: the first request."""
    ground.generate()


def _without_roots_rights(start: Start) -> None:
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search,-fowner"
        start.under = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")


LOADS_STAY = 'case "$*" in *--model*) ;; *) sleep 100 ;; esac\nexec "$REAL" "$@"'

START_FAULTS = {
    "port_taken": Fault(nothing, take_port, is_refusal=True),
    "host_unknown": Fault(nothing, variables(OLLAMA_HOST="nosuchhost.invalid:11434"), is_refusal=True),
    "address_not_local": Fault(nothing, variables(OLLAMA_HOST="192.0.2.1:11434"), is_refusal=True),
    "home_unset": Fault(nothing, variables(HOME=None), is_refusal=True),
    "home_and_store_unset": Fault(nothing, variables(HOME=None, OLLAMA_MODELS=None), is_refusal=True),
    "home_not_writable": Fault(nothing, refuse_home, is_refusal=True),
    "store_not_writable": Fault(nothing, refuse_store, is_refusal=True),
    "store_is_a_file": Fault(nothing, store_is_a_file, is_refusal=True),
    "setting_ignored": Fault(nothing, variables(OLLAMA_CONTEXT_LENGTH="many", OLLAMA_NUM_PARALLEL="x")),
    "llama_arg_unparsable": Fault(load, variables(LLAMA_ARG_FIT_TARGET="abc"), family="0.34"),
    "kv_cache_type_impossible": Fault(
        load, variables(OLLAMA_KV_CACHE_TYPE="q8_0", OLLAMA_FLASH_ATTENTION="1")
    ),
    "kv_cache_type_unknown": Fault(
        load, variables(OLLAMA_KV_CACHE_TYPE="nosuch", OLLAMA_FLASH_ATTENTION="1")
    ),
    "llama_server_missing": Fault(load, take_llama_server_away, family="0.34"),
    "llama_server_crashes_in_discovery": Fault(
        load,
        wrap_llama_server('case "$*" in *--model*) exec "$REAL" "$@";; esac\nkill -SEGV $$'),
        family="0.34",
    ),
    "discovery_watchdog": Fault(load, wrap_llama_server(LOADS_STAY), family="0.34"),
}
