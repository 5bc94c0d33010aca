"""A stand-in for `ollama serve`: a real process whose every fault is one word in an environment variable.

    FAKE_OLLAMA = life "|" life "|" …   the n-th start lives the n-th life, the last one for ever after
                                        (counted in the file FAKE_OLLAMA_LIVES; without it always the first)
    life        = mode ";" mode ";" …   modes may be combined; none = healthy
    mode        = name "," key=value …  in a value %2C stands for a comma, %3B for a semicolon, %7C for a bar

Modes of the process (with the default of each option in brackets):

    healthy                             nothing special
    crash       code[1] after_s[0] message[… address already in use]
                                        says the message on stderr and exits; after_s=0: before it binds
    signal      number[11] after_s[0.2] ends by that signal
    exit0       after_s[0]              exits 0 unasked
    panic       after_s[0.2]            goroutine dump on stderr, exit 2
    slow_start  after_s[2]              listens at once, answers HTTP after that
    never_ready                         listens, never answers
    binds_late  after_s[2]              does not listen before that
    never_binds                         does not listen at all
    ignore_term                         goes on at SIGTERM, SIGINT and SIGHUP
    slow_stop   after_s[1]              exits 0 so long after SIGTERM
    helpers     count[2] deaf[0] life_s[60]     children in its own group; deaf=1: they ignore SIGTERM
    escape      count[1] deaf[0] life_s[60]     children that left by a double fork and their own session
    storm       width[4] escape[0] life_s[20]   chains of processes that fork a successor and die, for ever
    runners                             a child `… runner --model <blob> --port N` for each loaded model
    flood       mb_per_s[0: unlimited] total_mb[0: endless] line_bytes[100] stream[stderr | stdout]
    replay      file[] total_mb[100] mb_per_s[0: unlimited] ahead_mb[0: unbounded] write_kib[64]
                sow[] sow_mb[10] sow_s[0] sow_count[0] over[replay over] note[]
                                        writes that file's lines again and again; a line of the file
                                        `sow` after so many megabytes, or after about so many seconds, until so
                                        many are sown; `ahead_mb`: waits while so much is not freed by who follows;
                                        `note`: a file for the times of all that
    eat         mb[512] after_s[0] who[self | child]        takes that much memory, a child 1.5 s after its start
    say         text[] file[] after_s[0] stream[stderr]     writes that line, or all that is in the file

Modes of an answer; each takes path[any; a prefix] method[any] after[0: spared requests] times[for ever]:

    freeze                              takes the request, never answers (without path: `OPTIONS *` too)
    delay       s[1]                    answers that much later
    error       status[500] text[boom]  {"error": text}
    html        status[500]             an HTML page
    broken_json, wrong_json, empty      200 with half an object, with `[1, "x", null]`, with no body
    slowloris   s[0.5]                  the right body, one byte every s seconds
    close, close_mid                    closes without an answer, in the middle of the body
    garbage                             bytes that are no HTTP
    huge        mb[8]                   a JSON object of that size
    die         code[2] signal[]        ends the process in the request
    pull        lines[5] line_s[0.01] total[1000000] fail[] stall_after[] silent_after[]
                                        how /api/pull goes; fail = text of the error in its last line
    tokens      s[0]                    pause between two tokens of an answer

Other variables:

    OLLAMA_HOST             as the real one
    FAKE_OLLAMA_CONTROL     file in the same grammar; while it holds anything it replaces FAKE_OLLAMA.
                            Read per request and every 20 ms: `crash` written there ends a running engine
    FAKE_OLLAMA_DUMP        file for {"environ","argv","pid","pgid","sid","cwd","fds","blocked"} as JSON
    FAKE_OLLAMA_PIDS        file for a pid per line of each process made
    FAKE_OLLAMA_REQUESTS    file for a JSON line per request
    FAKE_OLLAMA_MODELS      `name=bytes,…` [tiny:latest=450784]
    FAKE_OLLAMA_VERSION     [0.34.4]

`GET /__fake/requests` tells what was asked so far; `/api/echo…` gives a request back as JSON.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.engine.fake_process import main  # noqa: E402 (the path to it stands in the line above)

if __name__ == "__main__":
    main(sys.argv)
