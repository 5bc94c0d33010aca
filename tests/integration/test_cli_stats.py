"""Guards `stats` (contract §5): a table in 80 columns, unknown as a dash, and a watch that outlives the daemon."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from arasul_supervisor.cli import main
from tests.engine.board_trees import expected
from tests.integration.cli_daemon import Reply
from tests.integration.cli_daemon import daemon as daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.cli_daemon import DaemonDouble

STATS = "/api/stats"
HISTORY = "/api/stats/history"
PATIENCE_S = 15.0
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
WATCH = (sys.executable, "-m", "arasul_supervisor", "stats", "--watch", "--interval", "0.5")


def body_of(board: str, state: str = "") -> Any:  # Any: JSON
    """What the daemon says of that machine, its engine running a model."""
    told = expected(board, state)
    return {
        **told.pop("flat"),
        **told,
        "timestamp": 1_795_446_245.0,
        "gpu_sources": [
            {"source": "nvml", "state": "ok" if told["gpus"] else "none", "detail": "No library."}
        ],
        "engine": {
            "pid": 4242,
            "rss_bytes": 3 * 2**30,
            "runners": [{"pid": 4250, "model": "qwen3:14b-q8_0", "gpu_memory_bytes": None}],
        },
        "daemon": {"pid": 7, "rss_bytes": 40 * 2**20},
    }


def shown(daemon: DaemonDouble, body: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    daemon.says("GET", STATS, body)
    assert main(["stats"]) == 0
    return capsys.readouterr().out.splitlines()


# once


@pytest.mark.parametrize(
    ("board", "state", "words"),
    [
        (
            "x86-one-gpu",
            "",
            ["0 NVIDIA H100", "100 %", "19.4/79.6 GiB dedicated", "632/700 W", "at its power limit"],
        ),
        ("x86-two-gpus-mig", "", ["0 NVIDIA A10", "1 NVIDIA A100", "MIG, 3 slices"]),
        (
            "jetson-agx-orin-jp6",
            "busy",
            ["28.5/61.4 GiB unified", "VDD_GPU_SOC 22.9 W", "slows down at 99 °C"],
        ),
        ("jetson-thor-jp7", "busy", ["switches off at 114.5 °C", "slowed down: gpu"]),
        ("cpu-only", "", ["GPU: No library."]),
    ],
)
def test_a_board_is_shown_in_80_columns_without_colours_where_no_terminal_reads(
    board: str, state: str, words: list[str], daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(daemon, body_of(board, state), capsys)

    text = "\n".join(lines)
    assert [word for word in words if word not in text] == []
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text and [line for line in lines if line != line.rstrip()] == []


def test_the_engine_its_runner_and_the_daemon_are_shown(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(shown(daemon, body_of("x86-one-gpu"), capsys))

    assert "pid 4242" in text and "3.0 GiB RSS" in text
    assert "4250 qwen3:14b-q8_0" in text and "GPU –" in text
    assert "40 MiB RSS" in text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"gpus": [{}], "host": {}, "engine": {}, "daemon": {}, "platform": {}},
        {"gpus": [{"index": None, "state": None}], "host": {"memory": None, "cpu": None}, "engine": None},
    ],
    ids=["nothing", "empty parts", "nulls"],
)
def test_what_the_daemon_does_not_tell_is_a_dash_and_never_a_zero(
    body: dict[str, object], daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(shown(daemon, body, capsys))

    assert "–" in text
    assert "0 %" not in text and "0 W" not in text and "0 °C" not in text


def test_a_source_that_is_not_well_says_its_sentence(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {**body_of("x86-one-gpu"), "gpu_sources": [{"state": "stuck", "detail": "The driver hangs."}]}

    assert "GPU: The driver hangs." in shown(daemon, body, capsys)


def test_a_source_that_has_nothing_to_ask_is_silent_beside_a_gpu_that_is_known(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [
        {"state": "ok", "detail": ""},
        {"state": "none", "detail": "There is no GPU of a Jetson on this box."},
    ]

    lines = shown(daemon, {**body_of("x86-one-gpu"), "gpu_sources": sources}, capsys)

    assert not any(line.startswith("GPU:") for line in lines)


def test_a_box_without_a_gpu_is_told_of_in_one_sentence(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [
        {"source": "nvml", "state": "none", "detail": "There is no sign of an NVIDIA driver on this box."},
        {"source": "tegra", "state": "none", "detail": "There is no GPU of a Jetson on this box."},
        {"source": "jtop", "state": "none", "detail": "The service of jetson-stats is not there."},
    ]

    lines = shown(daemon, {**body_of("cpu-only"), "gpu_sources": sources}, capsys)

    assert [line for line in lines if line.startswith("GPU:")] == [
        "GPU: There is no sign of an NVIDIA driver on this box.",
        "GPU: The service of jetson-stats is not there.",
    ]


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ({"cpu": 0, "gpu": 0}, "none"),
        ({"cpu": None, "gpu": None}, "–"),
        ({"cpu": 0, "gpu": None, "soc0": None}, "none · unknown of gpu, soc0"),
        ({"cpu": 1, "gpu": None}, "slowed down: cpu · unknown of gpu"),
    ],
    ids=["none", "all unknown", "some unknown", "one raised"],
)
def test_an_alert_that_is_not_known_is_not_told_as_none(
    alerts: dict[str, object], words: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(daemon, {"host": {"throttle_alerts": alerts}}, capsys)

    assert [line.removeprefix("alerts").strip() for line in lines if line.startswith("alerts")] == [words]


def test_a_name_that_a_terminal_would_obey_is_written_out(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2JEvil\x9b"
    body = {
        "gpus": [{"index": 0, "name": evil, "state": evil, "memory_kind": evil}],
        "gpu_sources": [{"source": "nvml", "state": "stuck", "detail": evil}],
        "platform": {"model": evil},
        "host": {"store": {"folder": evil, "total_bytes": 1}, "throttle_alerts": {evil: 1}},
        "engine": {"pid": 1, "runners": [{"pid": 2, "model": evil}]},
    }

    text = "\n".join(shown(daemon, body, capsys))

    assert text.count("\\x1b[2JEvil") >= 6
    assert [letter for letter in text if not letter.isprintable() and letter != "\n"] == []


@pytest.mark.parametrize(
    ("oom", "words"),
    [
        ({"kills_total": 0, "cgroup_kills_total": 0}, None),
        (
            {"kills_total": 37, "cgroup_kills_total": 1},
            "37 kills on this machine since boot, 1 in the engine's group",
        ),
        ({"kills_total": 1, "cgroup_kills_total": None}, "1 kill on this machine since boot"),
    ],
    ids=["none", "ours too", "not counted for us"],
)
def test_kills_for_want_of_memory_are_told_where_there_were_some(
    oom: dict[str, object], words: str | None, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(daemon, {"host": {"oom": oom}}, capsys)

    told = [line.removeprefix("out of memory").strip() for line in lines if line.startswith("out of memory")]
    assert told == ([] if words is None else [words])


def test_the_source_of_an_older_daemon_is_understood(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {
        "gpus": [],
        "gpu_source": {"source": "nvml", "state": "no_driver", "detail": "No driver is loaded."},
    }

    assert "GPU: No driver is loaded." in shown(daemon, body, capsys)


def test_old_figures_tell_their_age(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    body = body_of("x86-one-gpu")
    body["gpus"][0].update(stale=True, age_s=34.2)
    body["host"].update(stale=True, age_s=200.0)

    text = "\n".join(shown(daemon, body, capsys))

    assert "34 s old" in text and "3 min old" in text


def test_the_last_minutes_are_a_line_where_the_daemon_keeps_them(
    daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [{"gpu_utilization": percent, "cpu_percent": None} for percent in (0, 50, 100)]
    daemon.says("GET", HISTORY, {"samples": samples})

    lines = shown(daemon, body_of("x86-one-gpu"), capsys)

    assert "gpu 15 min    ▁▅█  highest 100 %" in lines
    assert not any(line.startswith("cpu 15 min") for line in lines)


def test_json_is_the_daemons_own_body(daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]) -> None:
    body = body_of("x86-one-gpu")
    daemon.says("GET", STATS, body)

    assert main(["stats", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == body


@pytest.mark.parametrize("seconds", ["0.4", "nan", "soon", "-1", "inf"])
def test_an_interval_that_is_too_short_is_wrong_usage(
    seconds: str, daemon: DaemonDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "--watch", f"--interval={seconds}"]) == 2

    assert "no number of seconds" in capsys.readouterr().err
    assert daemon.asked == []


def test_without_a_daemon_it_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--url", "http://127.0.0.1:1"]) == 1

    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), "Nothing listens" in err) == ("", 1, True)


# again and again


def test_a_piped_watch_is_a_line_for_each_sample_until_ctrl_c(daemon: DaemonDouble) -> None:
    daemon.says("GET", STATS, body_of("x86-one-gpu"))
    process = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None

    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (0, "")
    assert all(line.startswith("2026-11-23 15:04:05 UTC  gpu0 100 % 19.4/79.6 GiB") for line in lines)


def test_a_watch_in_json_is_a_body_for_each_line(daemon: DaemonDouble) -> None:
    daemon.says("GET", STATS, {"timestamp": 1})
    process = subprocess.Popen((*WATCH, "--json"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None

    bodies = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, bodies) == (0, [{"timestamp": 1}] * 2)


def test_a_piped_watch_says_once_that_the_daemon_is_away_and_goes_on_when_it_is_back(
    daemon: DaemonDouble,
) -> None:
    away = Reply(ending="cut")
    ok = Reply(body=b'{"cpu_percent": 3.5}')
    daemon.replies("GET", STATS, ok, away, away, ok)
    process = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None

    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0
    assert all("cpu 3.5 %" in line for line in lines)
    assert (len(err.splitlines()), "Waiting for it." in err) == (1, True)


def test_a_watch_whose_daemon_was_never_there_ends(daemon: DaemonDouble) -> None:
    done = subprocess.run(
        (*WATCH, "--url", "http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert (done.returncode, "Nothing listens" in done.stderr) == (1, True)


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["words", "json"])
def test_a_watch_without_a_stdout_ends_at_once_and_says_why(
    words: tuple[str, ...], daemon: DaemonDouble
) -> None:
    daemon.says("GET", STATS, {"timestamp": 1})

    done = subprocess.run(
        ("sh", "-c", 'exec "$@" >&-', "sh", *WATCH, *words), stderr=-1, text=True, timeout=PATIENCE_S
    )

    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "standard output is closed" in done.stderr


def test_a_watch_without_any_output_ends_at_once(daemon: DaemonDouble) -> None:
    daemon.says("GET", STATS, {"timestamp": 1})

    done = subprocess.run(("sh", "-c", 'exec "$@" >&- 2>&-', "sh", *WATCH), timeout=PATIENCE_S)

    assert done.returncode == 1


def test_a_watch_on_a_terminal_says_an_absence_in_place_and_leaves_the_terminal_as_it_was(
    daemon: DaemonDouble,
) -> None:
    ok = Reply(body=json.dumps(body_of("jetson-agx-orin-jp6", "busy")).encode())
    away = Reply(ending="cut")
    daemon.replies("GET", STATS, ok, away, ok)
    terminal, end = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    process = subprocess.Popen(WATCH, stdin=end, stdout=end, stderr=end, env=environ)
    os.close(end)

    drawn = read_until(terminal, lambda screen: screen.count(b"Orin (nvgpu)") >= 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    drawn += read_until(terminal, lambda screen: SHOW_CURSOR in screen)
    os.close(terminal)

    assert drawn.index(HIDE_CURSOR) < drawn.index(b"Waiting for it.") < drawn.rindex(b"Orin (nvgpu)")
    assert drawn.rindex(SHOW_CURSOR) > drawn.rindex(HIDE_CURSOR)
    assert b"Traceback" not in drawn and b"^C" not in drawn


def read_until(terminal: int, is_enough: Callable[[bytes], bool]) -> bytes:
    """What the terminal shows; fails when it is not enough in time."""
    screen, deadline_mono = b"", time.monotonic() + PATIENCE_S
    while not is_enough(screen):
        left_s = deadline_mono - time.monotonic()
        assert left_s > 0 and select.select([terminal], [], [], left_s)[0], screen.decode("utf-8", "replace")
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            assert is_enough(screen), screen.decode("utf-8", "replace")
    return screen
