"""Guards CONTRACT §4 pulls: what the lines mean, how far a pull is, when it stands still or finds no room."""

from __future__ import annotations

import pytest

from arasul_supervisor.model_store.manifests import Layer
from arasul_supervisor.model_store.parts import LayerOnDisk
from arasul_supervisor.ollama.pull_lines import LineSplitter, PullError, PullLine, parse_line
from arasul_supervisor.ollama.pulls.feed import MAX_PENDING, PullFeed
from arasul_supervisor.ollama.pulls.progress import MAX_LAYERS, PullProgress
from arasul_supervisor.ollama.pulls.room import (
    MARGIN_BYTES,
    disk_full,
    has_room,
    may_have_room,
    wait_before_look,
)
from arasul_supervisor.ollama.pulls.stall import PullLimits, StallWatch

A = Layer(f"sha256:{'a' * 64}", 100, "")
B = Layer(f"sha256:{'b' * 64}", 50, "")
MANIFEST = PullLine("pulling manifest")
VERIFY = PullLine("verifying sha256 digest")


def layer(name: str, completed: int, total: int = 100) -> PullLine:
    return PullLine(f"pulling {name}", f"sha256:{name}", total, completed)


def layer_line(of: Layer, completed: int) -> PullLine:
    return PullLine("pulling", of.digest, of.size_bytes, completed)


def on_disk(of: Layer, *, done: int) -> LayerOnDisk:
    return LayerOnDisk(of, done_bytes=done, held_bytes=done, is_finished=done == of.size_bytes)


def push(feed: PullFeed, line: PullLine) -> None:
    feed.push(line.digest or line.status, line.as_json())


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


def test_a_part_that_is_begun_anew_waits_until_it_is_where_it_was() -> None:
    progress = PullProgress()
    for completed in (50, 30, 40, 60):
        progress.note(layer("a", completed), 0.0)
        if completed != 60:
            assert progress.completed_bytes == 50

    assert progress.completed_bytes == 60


def test_what_was_lost_and_is_fetched_again_is_counted() -> None:
    progress = PullProgress()
    for completed in (50, 30, 60):  # a part that is begun anew
        progress.note(layer_line(A, completed), 0.0)
    progress.begin_attempt([on_disk(A, done=10)])  # parts in flight at a SIGKILL
    progress.note(layer_line(A, 10), 0.0)

    assert progress.refetched_bytes == (50 - 30) + (60 - 10)


def test_what_an_attempt_has_brought_is_counted_from_what_lay_on_disk() -> None:
    progress = PullProgress()
    progress.expect([A, B])
    progress.note(layer_line(A, 90), 0.0)
    progress.begin_attempt([on_disk(A, done=30), on_disk(B, done=0)])
    at_first = progress.gained_bytes
    progress.note(layer_line(A, 40), 0.0)
    progress.note(layer_line(B, 50), 0.0)  # small: there at first sight
    gained = progress.gained_bytes
    progress.forget_gain()

    assert (at_first, gained, progress.gained_bytes) == (0, 60, 0)


def test_an_attempt_begins_with_what_lies_on_disk() -> None:
    progress = PullProgress()
    progress.expect([A, B])
    progress.note(layer_line(A, 100), 0.0)
    progress.begin_attempt([on_disk(A, done=30), on_disk(B, done=0)])

    assert (progress.total_bytes, progress.completed_bytes) == (150, 30)


def test_the_manifest_tells_the_total_before_the_first_byte_and_the_layer_under_way() -> None:
    progress = PullProgress()
    progress.expect([A, B])
    before = (progress.total_bytes, progress.layer_number, progress.n_layers)
    progress.note(layer_line(B, 10), 0.0)

    assert before == (150, None, 2)
    assert (progress.layer, progress.layer_number) == (B.digest, 2)


def test_without_a_manifest_nobody_knows_how_many_layers_there_are() -> None:
    progress = PullProgress()
    progress.note(layer("a", 10), 0.0)

    assert progress.n_layers is None


def test_room_is_needed_for_the_pull_for_the_others_and_for_a_margin() -> None:
    exactly = 100 + 20 + MARGIN_BYTES

    assert has_room(missing=100, elsewhere=20, free=exactly)
    assert not has_room(missing=100, elsewhere=20, free=exactly - 1)


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free() -> None:
    error = disk_full(
        "m", said="It failed.", missing=5_000_000_000, elsewhere=0, free=1_000_000, folder="/store"
    )

    assert "needs 5 GB (5000000000 bytes)" in error.sentence
    assert "1 MB (1000000 bytes) are free at /store" in error.sentence
    assert (error.fields["needed_bytes"], error.fields["free_bytes"]) == (5_000_000_000, 1_000_000)


def test_a_pull_of_unknown_size_waits_for_clearly_more_room_than_there_was() -> None:
    answers = [
        may_have_room(missing=None, elsewhere=0, free=free, free_when_full=1000)
        for free in (1000 + MARGIN_BYTES - 1, 1000 + MARGIN_BYTES)
    ]

    assert answers == [False, True]


def test_a_pull_that_meets_a_full_disk_again_and_again_looks_less_often() -> None:
    assert [wait_before_look(n) for n in (1, 2, 3, 9)] == [5.0, 10.0, 20.0, 60.0]


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


def test_a_step_back_does_not_count_as_speed() -> None:
    progress = PullProgress()
    progress.note(layer("a", 50), 0.0)
    progress.note(layer("a", 30), 1.0)
    progress.note(layer("a", 50), 2.0)

    assert progress.speed_bytes_per_s(2.0) == 0.0


def test_an_engine_that_invents_layers_takes_no_memory_without_end() -> None:
    progress = PullProgress()
    for n in range(MAX_LAYERS + 10):
        progress.note(layer(str(n), 0, total=0), 0.0)

    assert len(progress.digests) == MAX_LAYERS


def test_the_same_figures_again_are_no_sign_of_life() -> None:
    watch = StallWatch(PullLimits(stall_s=60.0), 0.0)
    watch.note(layer("a", 1), 10.0)
    watch.note(layer("a", 1), 50.0)

    assert watch.left_s(60.0) == 10.0


def test_a_step_back_is_no_sign_of_life_but_what_follows_is() -> None:
    watch = StallWatch(PullLimits(stall_s=60.0), 0.0)
    watch.note(layer("a", 90), 10.0)
    watch.note(layer("a", 20), 20.0)
    after_step_back = watch.left_s(20.0)
    watch.note(layer("a", 21), 30.0)

    assert after_step_back == 50.0
    assert watch.left_s(30.0) == 60.0


def test_before_the_first_layer_a_registry_may_think_for_twice_as_long() -> None:
    watch = StallWatch(PullLimits(stall_s=25.0), 0.0)
    at_first = watch.left_s(0.0)
    watch.note(MANIFEST, 10.0)

    assert (at_first, watch.left_s(10.0)) == (50.0, 50.0)


def test_a_digest_may_be_computed_for_longer_than_a_download_may_stall() -> None:
    watch = StallWatch(PullLimits(stall_s=60.0, verify_s=600.0), 0.0)
    watch.note(VERIFY, 10.0)

    assert watch.left_s(100.0) == 510.0


async def test_a_slow_watcher_gets_the_newest_line_of_each_layer_in_bounded_memory() -> None:
    feed = PullFeed()
    for completed in range(100):
        push(feed, layer("a", completed))
        push(feed, layer("b", completed))
    push(feed, VERIFY)
    feed.end({"status": "success"})
    push(feed, MANIFEST)

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
        push(feed, PullLine(f"step {n}"))
    feed.end({"error": "no"})

    assert len([line async for line in feed.lines()]) == MAX_PENDING + 1
