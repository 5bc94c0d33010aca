from __future__ import annotations
import subprocess, sys, time


def test_d(daemon):
    d = daemon("", env={"FAKE_OLLAMA_MODELS": "tiny:latest=450784"}).wait_ready()
    t = time.time()
    r = subprocess.run(
        [
            ".venv/bin/st",
            "run",
            d.url + "/openapi.json",
            "--phases",
            "coverage,fuzzing",
            "-n",
            "15",
            "--exclude-checks",
            "not_a_server_error",
            "--request-timeout",
            "20",
            "--exclude-path",
            "/api/process/stop",
            "--seed",
            "1",
            "--max-time",
            "60",
        ],
        capture_output=True,
        text=True,
        cwd="/work/main",
    )
    print(r.stdout[-15000:], r.stderr[-3000:], r.returncode, time.time() - t)
    print(d.get("/health").status)
