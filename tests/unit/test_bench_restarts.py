"""Guards what the benches of restarts read: the engine's stamps, the kernel's counts, the lists of apt."""

from __future__ import annotations

from bench.packages import libraries_in
from bench.restarts.stamps import Stamp, stamps_in
from bench.restarts.usage import fields_of


def test_whole_lines_are_stamps_and_the_rest_waits_for_its_end() -> None:
    stamps, rest = stamps_in(b"first 123 4711\nready 456 4711\nfirst 78")
    assert stamps == [Stamp("first", 123, 4711), Stamp("ready", 456, 4711)]
    assert rest == b"first 78"


def test_fields_without_a_whole_number_are_left_out() -> None:
    text = "Name:\tsh\nRss:                1588 kB\nvoluntary_ctxt_switches:\t150\n7f00-7fff ---p [rollup]\nEmpty:\n"
    assert fields_of(text) == {"Rss": 1588, "voluntary_ctxt_switches": 150}


def test_of_what_a_package_depends_on_the_libraries_are_taken_of_alternatives_the_last() -> None:
    text = (
        "wrk\n  Depends: libc6\n |Depends: libluajit-5.1-2\n  Depends: libluajit2-5.1-2\n"
        "  Depends: <libvirtual>\n  Depends: runit-helper\n  Breaks: libold1\n"
    )
    assert libraries_in(text) == ["libc6", "libluajit2-5.1-2"]
