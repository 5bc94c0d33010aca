"""The fake engine as a process: how it starts, listens, makes children, and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from tests.engine import fake_children
from tests.engine.fake_api import FakeApi
from tests.engine.fake_http import logged, serve_connections
from tests.engine.fake_log import GOROUTINES, log, say
from tests.engine.fake_modes import Mode, Orders, parse_life
from tests.engine.fake_names import blob_of
from tests.engine.fake_replay import Replay
from tests.engine.fake_runner import RunnerApi
from tests.engine.fake_scheduler import family_of

if TYPE_CHECKING:
    from collections.abc import Callable

FATES = ("crash", "signal", "exit0", "panic")


def main(argv: list[str]) -> None:
    """Do what the command line says: `serve`, `runner …`, `llama-server …`, `leave` or `--version`."""
    command = argv[1] if len(argv) > 1 else "serve"
    if command == "serve":
        _serve()
    elif command in ("runner", "llama-server"):
        _run_model(argv)
    elif command == "leave":
        fake_children.leave()
    else:
        print(f"ollama version is {os.environ.get('FAKE_OLLAMA_VERSION', '0.34.4')}")


def _serve() -> NoReturn:
    orders = Orders(os.environ)
    _obey_signals(orders)
    _dump()
    fake_children.note(os.getpid())
    host, port = _address(os.environ.get("OLLAMA_HOST", ""))
    for mode in orders.now():
        _meet_fate(mode, port, is_start=True)
    fake_children.make(orders)
    _start_threads(orders, port)
    if orders.find("never_binds"):
        _wait_for_ever()
    late = orders.find("binds_late")
    if late:
        time.sleep(late.number("after_s", 2))
    listener = _listen(host, port)
    log(f'source=routes.go:1 msg="Listening on {host}:{port} (version 0.34.4)"')
    if orders.find("never_ready"):
        _wait_for_ever()
    slow = orders.find("slow_start")
    if slow:
        time.sleep(slow.number("after_s", 2))
    log('source=types.go:1 msg="inference compute" id=cpu library=cpu')
    serve_connections(listener, logged(FakeApi(orders).answer))
    _wait_for_ever()


def _run_model(argv: list[str]) -> NoReturn:
    (told,) = parse_life(os.environ["FAKE_RUNNER"])
    if told.number("dies", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write("ollama" if argv[1] == "runner" else "llama-server")
    fake_children.note(os.getpid())
    api = RunnerApi(told.text("family", ""), told.number("load_s", 0), reads=told.number("reads", 1) > 0)
    serve_connections(_listen("127.0.0.1", int(argv[argv.index("--port") + 1])), api.answer)
    _wait_for_ever()


def _obey_signals(orders: Orders) -> None:
    def terminate(_number: int, _frame: object) -> None:
        if orders.find("ignore_term"):
            return
        slow = orders.find("slow_stop")
        if slow:
            time.sleep(slow.number("after_s", 1))
        fake_children.end_runners()
        os._exit(0)

    def hang_up(number: int, _frame: object) -> None:
        if not orders.find("ignore_term"):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def dump(_number: int, _frame: object) -> None:
        say(GOROUTINES.replace("panic: runtime error: invalid", "SIGQUIT: quit, not invalid"))
        os._exit(2)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    signal.signal(signal.SIGHUP, hang_up)
    signal.signal(signal.SIGQUIT, dump)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _dump() -> None:
    path = os.environ.get("FAKE_OLLAMA_DUMP")
    if path is None:
        return
    seen = {
        "environ": dict(os.environ),
        "argv": sys.argv,
        "pid": os.getpid(),
        "pgid": os.getpgid(0),
        "sid": os.getsid(0),
        "cwd": os.getcwd(),
        "fds": {int(fd): target for fd in os.listdir("/proc/self/fd") if (target := _link(fd))},
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(seen, file)
    os.rename(f"{path}.new", path)


def _link(fd: str) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the one that listed the folder
        return None


def _meet_fate(mode: Mode, port: int, *, is_start: bool) -> None:
    """Ends the process as the mode says, now or after its time; other modes do nothing here."""
    if mode.name not in FATES:
        return
    default_s = 0.0 if mode.name in ("crash", "exit0") or not is_start else 0.2
    after_s = mode.number("after_s", default_s)
    if after_s <= 0:
        _end(mode, port)
    _later(after_s, lambda: _end(mode, port))


def _end(mode: Mode, port: int) -> NoReturn:
    if mode.name == "signal":
        number = int(mode.number("number", 11))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            _default_action(number)
        os.kill(os.getpid(), number)
        time.sleep(1)
    if mode.name == "exit0":
        os._exit(0)
    if mode.name == "panic":
        say(GOROUTINES)
        os._exit(2)
    taken = f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use"
    message = mode.text("message", taken)
    if message:
        say(f"{message}\n")
    os._exit(int(mode.number("code", 1)))


def _default_action(number: int) -> None:
    # signal.signal works in the main thread only; the C library has no such wish
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(number, None)


def _later(after_s: float, action: Callable[[], None]) -> None:
    def wait() -> None:
        time.sleep(after_s)
        action()

    threading.Thread(target=wait, daemon=True).start()


def _start_threads(orders: Orders, port: int) -> None:
    for mode in orders.now():
        _talk(mode)
    orphan = orders.find("orphan_runner")
    if orphan:
        blob, family = blob_of(orphan.text("model", "tiny:latest")), family_of(orders)
        _later(orphan.number("after_s", 0), lambda: fake_children.start_orphan(blob, family=family))
    if orders.has_control:
        threading.Thread(target=_watch_control, args=(orders, port), daemon=True).start()


def _watch_control(orders: Orders, port: int) -> NoReturn:
    former: tuple[Mode, ...] = orders.now()
    while True:
        time.sleep(0.02)
        current = orders.now()
        if current is not former:
            former = current
            for mode in current:
                _meet_fate(mode, port, is_start=False)
                _talk(mode)


def _talk(mode: Mode) -> None:
    if mode.name == "flood":
        threading.Thread(target=_flood, args=(mode,), daemon=True).start()
    if mode.name == "replay":
        threading.Thread(target=Replay(mode).run, daemon=True).start()
    if mode.name == "say":
        _later(mode.number("after_s", 0), lambda: _say_mode(mode))
    if mode.name == "eat":
        _later(mode.number("after_s", 0), lambda: _eat(int(mode.number("mb", 512)), mode.text("who", "self")))


def _eat(mb: int, who: str) -> None:
    if who == "self":
        bytearray(mb << 20)
        return
    # seen for a while before it grows, as a runner is
    words = f"import time; time.sleep(1.5); bytearray({mb} << 20); time.sleep(60)"
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-S", "-c", words], os.environ, setsigdef=[signal.SIGPIPE]
    )
    os.waitpid(child, 0)


def _say_mode(mode: Mode) -> None:
    file = mode.text("file", "")
    text = mode.text("text", "")
    if file:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            text = lines.read().rstrip("\n")
    say(f"{text}\n", stream=mode.text("stream", "stderr"))


def _flood(mode: Mode) -> None:
    line_bytes, rate = int(mode.number("line_bytes", 100)), mode.number("mb_per_s", 0) * 1e6
    total = mode.number("total_mb", 0) * 1e6
    per_write = max(1, 65536 // line_bytes)
    begun, written, count = time.monotonic(), 0, 0
    while not total or written < total:
        lines = [f"flood {count + n:09d} ".ljust(line_bytes - 1, "x") for n in range(per_write)]
        count += per_write
        say("\n".join(lines) + "\n", stream=mode.text("stream", "stderr"))
        written += per_write * line_bytes
        ahead_s = written / rate - (time.monotonic() - begun) if rate else 0.0
        if ahead_s > 0:
            time.sleep(ahead_s)


def _address(text: str) -> tuple[str, int]:
    """Host and port, as the real one reads `:port`, `host`, `host:port`, `[::1]:port` and a URL."""
    rest = text.strip().rpartition("://")[2].partition("/")[0]
    host, colon, port = rest.rpartition(":")
    if not colon or (rest.count(":") > 1 and not rest.startswith("[")) or rest.endswith("]"):
        host, port = rest, "11434"
    return host.strip("[]") or "127.0.0.1", int(port)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        reason = "address already in use" if error.errno == 98 else "cannot assign requested address"
        say(f"Error: listen tcp {host}:{port}: bind: {reason}\n")
        os._exit(1)
    listener.listen(512)
    return listener


def _wait_for_ever() -> NoReturn:
    # Not `signal.pause`: a signal that the kernel hands to another thread would not wake it, and its handler, which
    # Python runs in this thread only, would wait as long.
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    while True:
        woken.recv(64)
