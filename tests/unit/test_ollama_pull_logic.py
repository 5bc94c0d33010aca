"""Guards CONTRACT §4 pulls: what the lines mean, how far a pull is, when it is taken up again."""

from __future__ import annotations

import pytest

from arasul_supervisor.errors import (
    ArasulError,
    BadInput,
    DiskFull,
    EngineDown,
    EngineRefused,
    ModelNotFound,
    RegistryError,
)
from arasul_supervisor.ollama.pulls.failures import (
    PullPaused,
    RegistryTrouble,
    RetryPolicy,
    pull_error,
    wait_before_attempt,
)
from arasul_supervisor.ollama.pulls.feed import MAX_PENDING, PullFeed
from arasul_supervisor.ollama.pulls.lines import LineSplitter, PullError, PullLine, parse_line
from arasul_supervisor.ollama.pulls.progress import PullProgress
from arasul_supervisor.ollama.pulls.run import PullLimits, StallWatch

POLICY = RetryPolicy(attempts=4, first_attempts=2, base_s=1.0, cap_s=3.0)
MANIFEST = PullLine("pulling manifest")
VERIFY = PullLine("verifying sha256 digest")


def layer(name: str, completed: int, total: int = 100) -> PullLine:
    return PullLine(f"pulling {name}", f"sha256:{name}", total, completed)


def test_lines_are_cut_out_of_chunks_of_any_size() -> None:
    splitter = LineSplitter()
    text = b'{"status":"a"}\n\n{"status":"b"}\r\n{"status":"c"}'

    lines = [line for n in range(len(text)) for line in splitter.feed(text[n : n + 1])] + splitter.rest()

    assert [parse_line(line) for line in lines] == [PullLine("a"), PullLine("b"), PullLine("c")]


def test_a_line_without_completed_has_done_nothing_yet() -> None:
    assert parse_line(b'{"status":"pulling ab","digest":"sha256:ab","total":5}') == PullLine(
        "pulling ab", "sha256:ab", 5, 0
    )


def test_an_error_line_is_no_step() -> None:
    assert parse_line(b'{"error":"EOF"}') == PullError("EOF")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pull model manifest: file does not exist", ModelNotFound),
        ("write /s/blobs/sha256-ab-partial: no space left on device", DiskFull),
        ("invalid model name", BadInput),
        ("pull model manifest: Get: tls: first record does not look like a TLS handshake", RegistryError),
        ("http: no Location header in response", RegistryError),
        ("pull model manifest: 412: this model requires a newer version of Ollama", RegistryError),
        ("pull model manifest: 403: forbidden", RegistryError),
        ("pull model manifest: 500: boom", RegistryTrouble),
        ("pull model manifest: 429: slow down", RegistryTrouble),
        ("pull model manifest: Get \"https://r/v2/\": dial tcp: lookup r: no such host", RegistryTrouble),
        ("digest mismatch, file must be downloaded again: want sha256:a, got sha256:b", RegistryTrouble),
        ("max retries exceeded: EOF", RegistryTrouble),
        ("context deadline exceeded", RegistryTrouble),
        ("EOF", RegistryTrouble),
    ],
)  # fmt: skip
def test_a_failed_pull_is_told_by_its_meaning(text: str, kind: type[ArasulError]) -> None:
    assert type(pull_error(text, "tiny")) is kind


def test_a_damaged_part_file_is_told_with_its_cure() -> None:
    assert "purge=true" in pull_error("unexpected EOF", "tiny").sentence


@pytest.mark.parametrize(
    "error",
    [ModelNotFound(), DiskFull(), BadInput(), RegistryError(), ArasulError()],
    ids=lambda error: error.code,
)
def test_what_no_retry_helps_fails_at_once(error: ArasulError) -> None:
    assert wait_before_attempt(error, 1, POLICY, bytes_seen=10) is None


@pytest.mark.parametrize(
    "error", [RegistryTrouble(), EngineDown(), EngineRefused()], ids=lambda error: error.code
)
def test_what_may_pass_is_taken_up_again_with_a_growing_capped_wait(error: ArasulError) -> None:
    waits = [wait_before_attempt(error, n, POLICY, bytes_seen=10) for n in range(5)]

    assert waits == [1.0, 1.0, 2.0, 3.0, None]  # 1, 1·2⁰, 1·2¹, min(3, 1·2²), the 4th in a row


def test_a_registry_that_never_sent_a_byte_is_given_up_sooner() -> None:
    waits = [wait_before_attempt(RegistryTrouble(), n, POLICY, bytes_seen=0) for n in (1, 2)]

    assert waits == [1.0, None]


def test_a_pause_is_nobodys_fault() -> None:
    assert wait_before_attempt(PullPaused(), 99, POLICY, bytes_seen=0) == 0.0


def test_total_and_completed_are_sums_over_the_layers() -> None:
    progress = PullProgress()
    for line in (MANIFEST, layer("a", 100), layer("b", 10, total=50), layer("b", 20, total=50)):
        progress.note(line, 0.0)

    assert (progress.total_bytes, progress.completed_bytes) == (150, 120)
    assert progress.digests == ("sha256:a", "sha256:b")


def test_all_layers_are_complete_when_they_are_verified() -> None:
    progress = PullProgress()
    for line in (layer("a", 97), VERIFY):
        progress.note(line, 0.0)

    assert (progress.total_bytes, progress.completed_bytes) == (100, 100)


def test_nothing_is_known_of_the_total_before_the_first_layer() -> None:
    progress = PullProgress()
    progress.note(MANIFEST, 0.0)

    assert (progress.total_bytes, progress.completed_bytes, progress.eta_s(1.0)) == (None, 0, None)


def test_the_speed_is_that_of_the_last_ten_seconds_and_the_time_left_follows() -> None:
    progress = PullProgress()
    for second in range(21):  # 1 byte/s, then 10 bytes/s from second 10 on
        progress.note(
            layer("a", second if second <= 10 else 10 + 10 * (second - 10), total=1000), float(second)
        )

    assert progress.speed_bytes_per_s(20.0) == pytest.approx(10.0)
    assert progress.eta_s(20.0) == pytest.approx((1000 - 110) / 10.0)


def test_bytes_that_were_there_before_are_no_speed() -> None:
    progress = PullProgress()
    for second in range(3):
        progress.note(layer("a", 5000, total=5000), float(second))

    assert progress.speed_bytes_per_s(3.0) == 0.0
    assert progress.eta_s(3.0) is None


def test_a_stalled_pull_slows_down_to_nothing() -> None:
    progress = PullProgress()
    progress.note(layer("a", 0), 0.0)
    progress.note(layer("a", 50), 5.0)

    assert progress.speed_bytes_per_s(5.0) == pytest.approx(10.0)
    assert progress.speed_bytes_per_s(60.0) == 0.0


def test_a_step_back_is_shown_and_does_not_count_as_speed() -> None:
    progress = PullProgress()
    progress.note(layer("a", 50), 0.0)
    progress.note(layer("a", 30), 1.0)

    assert (progress.completed_bytes, progress.best_bytes) == (30, 50)
    assert progress.speed_bytes_per_s(1.0) == 0.0


def test_an_engine_that_invents_layers_takes_no_memory_without_end() -> None:
    progress = PullProgress()
    for n in range(1000):
        progress.note(layer(str(n), 1), 0.0)

    assert len(progress.digests) == 256


def test_the_same_figures_again_are_no_sign_of_life() -> None:
    watch = StallWatch(PullLimits(stall_s=60.0), 0.0)
    watch.note(layer("a", 1), 10.0)
    watch.note(layer("a", 1), 50.0)

    assert watch.left_s(60.0) == 10.0


def test_a_digest_may_be_computed_for_longer_than_a_download_may_stall() -> None:
    watch = StallWatch(PullLimits(stall_s=60.0, verify_s=600.0), 0.0)
    watch.note(VERIFY, 10.0)

    assert watch.left_s(100.0) == 510.0


async def test_a_slow_watcher_gets_the_newest_line_of_each_layer_in_bounded_memory() -> None:
    feed = PullFeed()
    for completed in range(100):
        feed.push(layer("a", completed))
        feed.push(layer("b", completed))
    feed.push(VERIFY)
    feed.end({"status": "success"})
    feed.push(MANIFEST)

    lines = [line async for line in feed.lines()]

    assert lines == [
        layer("a", 99).as_json(),
        layer("b", 99).as_json(),
        {"status": "verifying sha256 digest"},
        {"status": "success"},
    ]


async def test_a_watcher_that_never_reads_holds_a_bounded_number_of_lines() -> None:
    feed = PullFeed()
    for n in range(10_000):
        feed.push(PullLine(f"step {n}"))
    feed.end({"error": "no"})

    assert len([line async for line in feed.lines()]) == MAX_PENDING + 1
