"""Takes out of a log line what is private: passwords, tokens, prompts, the model's words. Pure.

What Ollama really prints of these is in facts/ollama.md §6.5; the general forms stand guard for what it may print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

REDACTED: Final = "[redacted]"

SCHEME: Final = r"(?:bearer|basic|digest|token)"
QUERY: Final = r"(?!\[redacted)(?:\\u[0-9a-f]{4}|[^\s\"\\])+"  # \u0026 is how Go's JSON writes the & in it
BEFORE_QUERY: Final = r"((?<=\w)://(?:(?!://)[^\s\"\\?])*\?)"
SLOG_MSG: Final = r'^time=\S+ level=(?:TRACE|DEBUG-\d+) source=\S+ msg=(?:"(?:\\.|[^"\\])*"|[^\s"]\S*)'
# Ollama's parsers of tool calls and channels, of 0.34.4 and of its forks: what they cannot read they print.
MODEL_SAID: Final = (
    r'^time=\S+ level=\S+ source=\S+ msg="[^"]*'
    r'(?:parsing failed|call flush on done failed|token in ATEM)[^"]*"'
)
MODEL_TEXTS: Final = ("content", "header", "action")


@dataclass(frozen=True, slots=True)
class Secret:
    """A form in which something private is printed: group 1 stays, the rest of the match goes.

    A line can only hold it when it holds `word` (in lower case): most lines are done with that look.
    """

    word: str
    pattern: re.Pattern[str]


SECRETS: Final = (
    # ≤ 0.29 at OLLAMA_DEBUG: msg="chat request" images=0 prompt="…"; a number is a count of tokens
    Secret("prompt=", re.compile(r"(\bprompt=)(?!\d+(?:\s|$))(?:\"(?:\\.|[^\"\\])*\"?\S*|\S+)")),
    # env="map[… HTTPS_PROXY:http://user:PASSWORD@host:3128 …]"; Go takes a proxy without a scheme too
    Secret("_proxy", re.compile(r"(_proxy[:=])(?:(?!\s\w{1,80}:|_proxy[:=])[^\"\n])*(?=@)", re.IGNORECASE)),
    # scheme://user:pass@host, scheme://token@host: to the last @, a password may hold one.
    # An address that is cut may have been cut in the password. No run goes past the next ://, or it were quadratic.
    Secret("://", re.compile(r"((?<=\w)://)(?:(?!://)(?:\\.|[^\s\"\\]))*(?=@| \[cut @)")),
    Secret(
        "authorization",
        re.compile(
            # each (?=(?P<…>…))(?P=…) takes its run once for all: giving back blanks one by one, it were quadratic
            r"(authorization(?=(?P<gap>\W+))(?P=gap)"
            rf"(?=(?P<scheme>(?:{SCHEME}\s+)?))(?P=scheme))(?!redacted\b|\[redacted)[^\s\"',}}\]]+",
            re.IGNORECASE,
        ),
    ),
    Secret("bearer", re.compile(r"(\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE)),
    *(
        Secret(
            word,
            re.compile(
                rf"({name}\\?[\"']?\s*[:=]\s*)"
                r"(?!\d+\b|\s|\[redacted)(?:\\?\"(?:\\.|[^\"\\])*\\?\"|[^\s\"',}\]&]+)",
                re.IGNORECASE,
            ),
        )
        for word, name in (
            ("key", r"(?:(?:api|access|secret)[_-]?|[?&])key"),
            ("token", r"(?<![a-z0-9])(?:auth)?token"),
            ("passw", r"passw(?:or)?d"),
            ("pwd", r"pwd"),
            ("secret", r"secret"),
        )
    ),
    # https://…?X-Amz-Signature=…: the address of a blob is a key to it for a while. AWS, CloudFront and Google say
    # signature=, Cloudflare verify=, Azure sig= beside sv=2024-11-04.
    Secret("x-amz-", re.compile(r"(x-amz-(?:credential|signature|security-token)=)[^&\s\"]+", re.IGNORECASE)),
    *(Secret(word, re.compile(BEFORE_QUERY + QUERY)) for word in ("signature=", "verify=")),
    Secret("sv=", re.compile(BEFORE_QUERY + r"(?=[^\s\"\\]{0,200}?\bsv=\d{4}-)" + QUERY)),
    Secret("hf_", re.compile(r"(\bhf_)[A-Za-z0-9]{16,}")),
    # of the request that gin prints after a panic
    Secret("cookie:", re.compile(r"(cookie:\s*)(?![\s\[]).+", re.IGNORECASE | re.DOTALL)),
    # from here on to the end of the line; after the others, which may uncover how these begin
    # common_chat_peg_parse: unparsed peg-native output: <what the model said, over several raw lines>
    Secret("unparsed", re.compile(r"^([^\n:]{0,80}: unparsed [^\n:]{0,60} output: ).*", re.DOTALL)),
    # common_chat_peg_parse: full peg-native output triggering error: / Parsed message: {"role":…
    Secret(
        "triggering error:",
        re.compile(r"^([^\n:]{0,80}: full .{0,60} output triggering error:).*", re.DOTALL),
    ),
    Secret("parsed message:", re.compile(r"^((?:[^\n:]{0,80}: )?Parsed message: ).*", re.DOTALL)),
    # time=… level=TRACE source=… msg="encoded" string="<prompt>" ids=[…]
    *(Secret(word, re.compile(rf"({SLOG_MSG} ).+", re.DOTALL)) for word in ("level=trace", "level=debug-")),
    # level=WARN source=gemma4.go:329 msg="gemma4 tool call parsing failed" error=… content="<what the model said>"
    *(
        Secret(word, re.compile(rf"({MODEL_SAID} ).+", re.DOTALL))
        for word in ("parsing failed", "flush on", "atem")
    ),
    *(Secret(f" {key}=", re.compile(rf"(^time=\S+ level=.*? {key}=).+", re.DOTALL)) for key in MODEL_TEXTS),
)
PRIVATE_BLOCK_START: Final = re.compile(
    r"^[^\n:]{0,80}: (?:unparsed [^\n:]{0,60} output: |full .{0,60} output triggering error:)"
)


def redact(text: str) -> str:
    """The line as anybody may see it; unchanged when nothing in it is private."""
    low = text.lower()
    for secret in SECRETS:
        if secret.word in low:
            text = secret.pattern.sub(rf"\1{REDACTED}", text)
    return text


def begins_private_block(text: str) -> bool:
    """True for a line whose raw text may go on over the next lines, until one that a logger wrote."""
    return PRIVATE_BLOCK_START.match(text) is not None
