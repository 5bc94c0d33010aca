"""Which models the fake engine holds, and who may use them: Ollama's scheduler in small, with its weak points.

Loads are serial; a model that is used, or that a frozen runner holds, is not dropped; whoever waits for it waits as
long. Measured in facts/ollama.md §4.1, §4.2 and §7 1 to 6.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from tests.engine import fake_children
from tests.engine.fake_log import GOROUTINES, log, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.fake_modes import Mode, Orders
    from tests.engine.fake_runner_process import RunnerProcess

LOOK_EVERY_S = 0.02
SWEEP_EVERY_S = 0.05
WARNINGS_EVERY_S = 0.01
KEEP_ALIVE_S = 300.0
LOAD_TIMEOUT_S = 300.0
ASKS_EVERY_S = 0.25
LEAKED_BEFORE_S = 0.05  # several ticks of the clock that start times are told in
BUSY = "server busy, please try again.  maximum pending requests exceeded"
DIED = "an error was encountered while running the model: unexpected EOF"
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Refused(Exception):
    """What a client gets instead of its answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Loaded:
    """One model in memory. `until`: when it is dropped, if nobody uses it. `is_given_up`: its runner was found frozen
    or dead, and a new one takes its place as soon as nobody uses it. `is_stuck`: it is stopping, for ever."""

    def __init__(self, name: str, runner: RunnerProcess | None, keep_alive_s: float) -> None:
        self.name, self.runner, self.keep_alive_s = name, runner, keep_alive_s
        self.until = expiry(keep_alive_s)
        self.n_users = 0
        self.is_given_up = self.is_stuck = False
        self.turns = threading.Semaphore(int(os.environ.get("OLLAMA_NUM_PARALLEL") or 1))

    @property
    def is_gone(self) -> bool:
        """Whether its runner has ended."""
        return self.runner is not None and self.runner.ended.is_set()


class Scheduler:
    """The books of the loaded models; a model's runner is a process only with the mode `runners`."""

    def __init__(self, orders: Orders, blob_of: Callable[[str], str]) -> None:
        self._orders, self._blob_of = orders, blob_of
        self._runners: Mode | None = orders.find("runners")
        self._family = family_of(orders)
        self._loaded: dict[str, Loaded] = {}
        self._books = threading.RLock()
        self._load_turn = threading.Lock()
        self._n_pending = 0
        if self._runners:
            threading.Thread(target=self._sweep_for_ever, daemon=True).start()

    def expiries(self) -> dict[str, float]:
        """What `/api/ps` lists: name and expiry in wall seconds. ≥ 0.30 waits while a runner is checked."""
        self._sweep()
        with self._books:
            return {name: loaded.until for name, loaded in self._loaded.items()}

    @contextlib.contextmanager
    def use(self, name: str, keep_alive: object, is_unwanted: Callable[[], bool]) -> Iterator[Loaded]:
        """The model, loaded, inside; afterwards its keep-alive begins.

        :raises Refused: it could not be loaded
        :raises ConnectionResetError: the client went away while it waited
        """
        seconds = parse_keep_alive(keep_alive)
        loaded = self._usable(name) or self._load_in_turn(name, seconds, is_unwanted)
        if seconds is not None:
            loaded.keep_alive_s = seconds
        try:
            yield loaded
        finally:
            with self._books:
                loaded.n_users -= 1
                if not loaded.is_given_up:
                    loaded.until = expiry(loaded.keep_alive_s)
            self._sweep()

    def unload(self, name: str) -> None:
        """Let it expire now; it goes when nobody uses it."""
        with self._books:
            if name in self._loaded:
                self._loaded[name].until = time.time()
                self._loaded[name].keep_alive_s = 0
        self._sweep()

    def tokens(self, loaded: Loaded, count: int, is_unwanted: Callable[[], bool]) -> Iterator[None]:
        """Yields once per token, as the runner makes them.

        :raises RunnerDied: it went away
        :raises ConnectionResetError: the client went away
        """
        tokens, stuck = self._orders.find("tokens"), self._orders.find("stuck_compute")
        pause_s = tokens.number("s", 0) if tokens else 0
        if loaded.runner is None:
            for _ in range(count):
                time.sleep(pause_s)
                yield
            return
        asked: dict[str, object] = {"n_predict": count, "pause_s": pause_s}
        if stuck and stuck.text("model", loaded.name) == loaded.name:
            asked["stuck_after"] = stuck.number("after", 3)
        _take(loaded.turns, is_unwanted)
        try:
            yield from loaded.runner.complete(asked, is_unwanted)
        finally:
            loaded.turns.release()

    def _usable(self, name: str) -> Loaded | None:
        with self._books:
            loaded = self._loaded.get(name)
            if loaded is None or loaded.is_given_up:
                return None
            if self._family == "0.24":
                loaded.n_users += 1
            elif self._is_well(loaded):
                loaded.n_users += 1
                return loaded
            else:
                self._give_up(loaded)
                return None
        if self._is_well(loaded):
            return loaded
        with self._books:
            loaded.n_users -= 1
            self._give_up(loaded)
        return None

    def _is_well(self, loaded: Loaded) -> bool:
        if loaded.runner is None:
            return True
        if loaded.is_gone:
            for _ in range(2):
                self._log_death()
            return False
        ping_s = self._runners.number("ping_s", 10) if self._runners else 10
        return loaded.runner.is_ready(timeout_s=ping_s) or loaded.runner.is_ready(timeout_s=ping_s)

    def _give_up(self, loaded: Loaded) -> None:
        loaded.is_given_up, loaded.until = True, time.time()
        self._sweep()

    def _load_in_turn(self, name: str, seconds: float | None, is_unwanted: Callable[[], bool]) -> Loaded:
        most = int(os.environ.get("OLLAMA_MAX_QUEUE") or 512)
        if self._orders.find("queue_full") or self._n_pending >= most:
            raise Refused(503, BUSY)
        self._n_pending += 1
        try:
            _take(self._load_turn, is_unwanted)
        finally:
            self._n_pending -= 1
        try:
            return self._usable(name) or self._load(name, seconds, is_unwanted)
        finally:
            self._load_turn.release()

    def _load(self, name: str, seconds: float | None, is_unwanted: Callable[[], bool]) -> Loaded:
        while name in self._loaded:  # its runner is used, or does not end
            self._sweep()
            _look(is_unwanted)
        runner = self._start(name, is_unwanted) if self._runners else None
        loaded = Loaded(name, runner, KEEP_ALIVE_S if seconds is None else seconds)
        loaded.n_users = 1
        with self._books:
            self._loaded[name] = loaded
        return loaded

    def _start(self, name: str, is_unwanted: Callable[[], bool]) -> RunnerProcess:
        assert self._runners is not None
        blob, load_s = self._blob_of(name), self._runners.number("load_s", 0)
        reads = self._runners.text("load", "reads") == "reads"
        dying = self._orders.find("dying_loads")
        dies = dying is not None and dying.fits("load", name)
        if self._orders.find("leaked_runner"):
            fake_children.start_runner(blob, family=self._family, load_s=0, reads=False)
            time.sleep(LEAKED_BEFORE_S)
        runner = fake_children.start_runner(blob, family=self._family, load_s=load_s, reads=reads, dies=dies)
        what = "runner" if self._family == "0.24" else "llama-server"
        log(f'source=server.go:433 msg="starting {what}" cmd="{what} --model {blob} --port {runner.port}"')
        poison = self._orders.find("poison")
        if poison and poison.text("model", name) == name:
            say(GOROUTINES)
            os._exit(2)
        begun, limit_s = time.monotonic(), _seconds(os.environ.get("OLLAMA_LOAD_TIMEOUT"), LOAD_TIMEOUT_S)
        try:
            while not runner.is_ready(timeout_s=1):
                if runner.ended.is_set():
                    self._meet_death(blob, is_unwanted)
                if time.monotonic() > begun + limit_s:
                    raise self._failed(blob, f"timed out waiting for {self._words} to start - ", 500)
                _look(is_unwanted)
                time.sleep(min(ASKS_EVERY_S, time.monotonic() - begun))  # more seldom as it takes longer
        except BaseException:
            runner.kill()
            raise
        took_s = time.monotonic() - begun
        log(f'source=server.go:1432 msg="{self._words} started in {took_s:.2f} seconds"')
        return runner

    @property
    def _words(self) -> str:
        return "llama runner" if self._family == "0.24" else "llama-server"

    def _meet_death(self, blob: str, is_unwanted: Callable[[], bool]) -> None:
        """0.34 says so; 0.24 waits until the client leaves, and all other loads with it."""
        if self._family != "0.24":
            raise self._failed(blob, "llama-server process has terminated: signal: killed", 500)
        while not is_unwanted():
            self._log_death()
            time.sleep(WARNINGS_EVERY_S)
        self._failed(blob, "context canceled", 499)
        raise ConnectionResetError

    def _log_death(self) -> None:
        source = 'source=server.go:1305 msg="{} process no longer running" sys=9 string="signal: killed"'
        log(source.format(self._words), level="WARN")

    def _failed(self, blob: str, text: str, status: int) -> Refused:
        log(f'source=sched.go:511 msg="Load failed" model={blob} error={json.dumps(text)}')
        return Refused(status, text)

    def _sweep_for_ever(self) -> None:
        while True:
            time.sleep(SWEEP_EVERY_S)
            self._sweep()

    def _sweep(self) -> None:
        """Drop what has expired and is not used; a model that is stuck in stopping goes when its runner has ended."""
        with self._books:
            over = [one for one in self._loaded.values() if one.until < time.time() and not one.n_users]
            is_stuck = self._orders.find("stuck_stopping") is not None
            for loaded in over:
                loaded.is_stuck = loaded.is_stuck or is_stuck
                if not loaded.is_stuck or loaded.is_gone:
                    del self._loaded[loaded.name]
                    if loaded.runner:
                        loaded.runner.kill()


def family_of(orders: Orders) -> str:
    """`0.24` or `0.34`: what the runners are told to be, else what the version says."""
    runners = orders.find("runners")
    version = os.environ.get("FAKE_OLLAMA_VERSION", "0.34.4")
    is_old = version.split(".")[0] == "0" and int(version.split(".")[1]) < 30
    return runners.text("family", "0.24" if is_old else "0.34") if runners else "0.34"


def expiry(keep_alive_s: float) -> float:
    """When a model that is used no more expires, in wall seconds; never when negative."""
    return float("inf") if keep_alive_s < 0 else time.time() + keep_alive_s


def parse_keep_alive(value: object) -> float | None:
    """Seconds: a number, or a text such as `5m`; None keeps what the model has."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return _seconds(value, KEEP_ALIVE_S) if isinstance(value, str) else None


def _seconds(text: str | None, default: float) -> float:
    try:
        return float((text or "")[:-1]) * UNITS_S[(text or "")[-1:]]
    except (ValueError, KeyError):
        return default


def _take(lock: threading.Lock | threading.Semaphore, is_unwanted: Callable[[], bool]) -> None:
    while not lock.acquire(timeout=LOOK_EVERY_S):
        if is_unwanted():
            raise ConnectionResetError


def _look(is_unwanted: Callable[[], bool]) -> None:
    if is_unwanted():
        raise ConnectionResetError
    time.sleep(LOOK_EVERY_S)
