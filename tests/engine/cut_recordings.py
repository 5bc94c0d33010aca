"""Cuts raw recordings down to the lines that matter, for tests/recorded.

    python -m tests.engine.cut_recordings RAW OUT

RAW is a folder of `record_logs`. Whole lines go: what ordinary use prints too, metadata of models, settings, key
material, the later frames of a stack. Of what stays only paths, a name server and the build host are replaced.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALIKE_AT_MOST: Final = 3
FRAMES_AT_MOST: Final = 6

# what differs between two runs of the same thing
CHANGING: Final = re.compile(
    rb"time=\S+|\d{4}/\d\d/\d\d[ -]+[\d:]+|sha256[-:][0-9a-f]+|0x[0-9a-f]+"
    rb"|/tmp/record-\w+/\w+|/library/\w+|\b[0-9a-f]{12}\b"
    rb"|[\d.]+(?:\xc2\xb5s|ms|m?s)\b|-?\d+"
)
# kept in a fault's file although ordinary use prints them: they are what a reader sees around it
AROUND: Final = re.compile(
    rb'time=.*msg="(?:Listening on|starting (?:llama-server|runner)"|(?:llama-server|llama runner) started in)'
    rb"|\[GIN\] .*(?<!/api/version\")$"
)
# false alarms: in the file of ordinary use nothing else stays
ALARMING: Final = re.compile(rb"(?i)error|fail|panic|abort|warn|fatal|security risk|unable|invalid|not ready")
DROPPED: Final = re.compile(
    rb'time=.*msg=(?:"server config"|"template selection"|"using llama-server|"loading model via|"disabling mmap'
    rb'|"(?:kv cache|total memory)"|load request=)'
    rb"|llama_model_loader: - |print_info: |load_tensors: |ssh-ed25519 |Your new public key|llama_context: n_ctx"
    rb"|example_format: "
    rb"|\s*$|\[New LWP|\[Thread debugging|Using host libthread"
)
FRAME: Final = re.compile(
    rb"\t|#\d+ |\d+\t|[\w./@-]+\.[\w.(*)\[\]{}]+\(|r[0-9a-z]+ +0x|[cfg]s +0x|rip |rflags |/\S+\.go:\d+ |created by "
    rb"|goroutine \d+ gp"
)
REPLACED: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rb"/tmp/record-\w+/(?:store|small|file|locked(?=/blobs))", b"/models"),
        (rb"/tmp/record-\w+/(?:home|locked)", b"/home/ollama"),
        (rb"/tmp/record-\w+/engine/lib", b"/usr/lib"),
        (rb"[^\s\"=]*engine[^\s\"=:]*/lib/ollama", b"/usr/lib/ollama"),
        (rb"[^\s\"=]*engine[^\s\"=:]*/bin/ollama", b"/usr/bin/ollama"),
        (rb"/tmp/record-\w+", b"/opt/ollama"),
        (rb"/[\w/.-]*llama-cpp-src", b"/build/llama.cpp"),
        (rb"/root/go/pkg/mod", b"/go/pkg/mod"),
        (rb"/tmp/lib/", b"/opt/lib/"),
        (rb"/tmp/[\w.-]+/(?=build|dist)", b"/opt/src/"),
        (rb" on [\d.]+:53: no such host", b" on 127.0.0.53:53: no such host"),
    )
)


def main(arguments: Sequence[str]) -> int:
    """Cut every log of the folder; faults that leave no line beside the access log get no file."""
    raw, out = (Path(argument) for argument in arguments)
    out.mkdir(parents=True, exist_ok=True)
    usual = {shape(line) for line in lines_of(raw / "ordinary.log")}
    silent = []
    for log in sorted(raw.glob("*.log")):
        lines = [line for line in lines_of(log) if not DROPPED.match(line)]
        if log.stem == "ordinary":
            kept = once_each(line for line in lines if ALARMING.search(line))
        else:
            kept = told(lines, usual)
        if log.stem == "ordinary" or any(is_of_a_fault(line, usual) for line in kept):
            (out / log.name).write_bytes(b"".join(map(replaced, kept)))
        else:
            silent.append(log.stem)
    print("silent:", *silent)
    return 0


def lines_of(log: Path) -> list[bytes]:
    """Lines with their ends, which may be missing on the last."""
    return log.read_bytes().splitlines(keepends=True)


def shape(line: bytes) -> bytes:
    """What of a line is the same in every run."""
    return CHANGING.sub(b"#", line).strip()


def told(lines: Iterable[bytes], usual: set[bytes]) -> list[bytes]:
    """Unusual lines and what stands around them; of many alike and of long stacks only the first."""
    kept: list[bytes] = []
    alike: dict[bytes, int] = {}
    frames = 0
    for line in lines:
        seen = alike[shape(line)] = alike.get(shape(line), 0) + 1
        if FRAME.match(line):
            frames += 1
        elif line.startswith((b"time=", b"[GIN] ")):
            frames = 0
        is_told = shape(line) not in usual or AROUND.match(line)
        if (
            is_told
            and (seen <= ALIKE_AT_MOST or line.startswith(b"[GIN] "))
            and (frames <= FRAMES_AT_MOST or not FRAME.match(line))
        ):
            kept.append(line)
    return kept


def is_of_a_fault(line: bytes, usual: set[bytes]) -> bool:
    """Whether the line is more than the access log of a request that failed; 503 is a full queue."""
    return b"| 503 |" in line or (shape(line) not in usual and not line.startswith(b"[GIN] "))


def once_each(lines: Iterable[bytes]) -> list[bytes]:
    """The first of each shape."""
    first: dict[bytes, bytes] = {}
    for line in lines:
        first.setdefault(shape(line), line)
    return list(first.values())


def replaced(line: bytes) -> bytes:
    """Without what belongs to the machine that recorded it."""
    for pattern, replacement in REPLACED:
        line = pattern.sub(replacement, line)
    return line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
