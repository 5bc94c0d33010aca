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
    runners     family[by the version] load_s[0] load[reads | still] ping_s[10]
                                        a process for each loaded model, with the argv and the HTTP of that
                                        generation: 0.34 `… llama-server --model <blob> --port N …`, 0.24
                                        `… runner --model <blob> --port N` (and it is the version that is told); a
                                        request holds a connection to it. `load_s`: how long a load takes, in which
                                        it reads and computes, or stands still; `ping_s`: how long, twice, a runner
                                        that is to be used again may take to say that it lives. In force from the
                                        start, whatever the control file says
    orphan_runner   model[tiny:latest] after_s[0]   with `runners`: one more, in a session of its own, whose
                                        parent is gone
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
    pull        lines[5] line_s[0.01] total[1000000] stamped[0] fail[] stall_after[] silent_after[]
                                        how /api/pull goes; stamped = `completed` is the monotonic clock in
                                        microseconds; fail = text of the error in its last line
    tokens      s[0]                    pause between two tokens of an answer

Modes of the loaded models, with `runners`:

    stuck_compute   model[any] after[3] answers that begin now stop after so many tokens, for ever; the runner's HTTP
                                        lives
    stuck_stopping                      a model that expires now, or is unloaded, stays in `/api/ps`, past its time
                                        and idle, until its runner is dead
    leaked_runner                       a load makes two runners of the blob, and nobody knows of the older
    queue_full                          503 `server busy…` for every load, with nothing behind it
    dying_loads     after[0] times[for ever]    a runner dies at its start; 0.34: 500; 0.24: ~100 lines/s
                                        `… process no longer running` and no answer until the client leaves
    poison          model[any]          the engine panics while it loads that model, and leaves the runner behind

Other variables:

    OLLAMA_HOST             as the real one
    FAKE_OLLAMA_CONTROL     file in the same grammar; while it holds anything it replaces FAKE_OLLAMA.
                            Read per request and every 20 ms: `crash` written there ends a running engine
    FAKE_OLLAMA_DUMP        file for {"environ","argv","pid","pgid","sid","cwd","fds","blocked"} as JSON
    FAKE_OLLAMA_PIDS        file for a pid per line of each process made
    FAKE_OLLAMA_REQUESTS    file for a JSON line per request
    FAKE_OLLAMA_MODELS      `name=bytes,…` [tiny:latest=450784]
    FAKE_OLLAMA_VERSION     [0.34.4; 0.24.0 with `runners,family=0.24`]
    OLLAMA_MODELS           store in which the blob of a model is looked up, as the real one's
    OLLAMA_NUM_PARALLEL, OLLAMA_MAX_QUEUE, OLLAMA_LOAD_TIMEOUT, LLAMA_ARG_ENDPOINT_SLOTS    as the real ones, with
                            `runners`

`GET /__fake/requests` tells what was asked so far; `/api/echo…` gives a request back as JSON.
"""

from __future__ import annotations

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.engine.fake_process import main  # noqa: E402 (the path to it stands in the line above)

if __name__ == "__main__":
    main(sys.argv)
