"""What a storm of pulls has left: in the store, at the engine, and in the daemon's list."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine.store import blob_path

if TYPE_CHECKING:
    from tests.engine.pull_storm import Storm
    from tests.engine.pull_storm_account import Account


def wrongs_at_the_end(storm: Storm) -> list[str]:
    """Sentences on all that is not as it must be when every pull has ended."""
    store = Path(storm.daemon.environment["OLLAMA_MODELS"])
    storm.daemon.wait_ready().wait_for(
        lambda: all(job["state"] in ("done", "failed", "cancelled") for job in _jobs(storm)),
        what="no job is active",
        limit_s=60,
    )
    listed = {model["name"] for model in storm.daemon.engine("GET", "/api/tags").json()["models"]}
    return [
        *storm.wrongs,
        *(
            f"job {job['id']} is {job['state']}: {job['error']}"
            for job in _jobs(storm)
            if job["state"] != "done"
        ),
        *(f"{pull.name} is not listed by Ollama" for pull in storm.pulls if pull.name not in listed),
        *(f"blob {digest} has other bytes" for digest in storm.sizes if not _is_whole(store, digest)),
        *(f"{part.name} is left in the store" for part in (store / "blobs").glob("*-partial*")),
    ]


def report(storm: Storm, account: Account, seed: int) -> str:
    """The account as JSON, also written to where ARASUL_STORM_REPORT says."""
    content = json.dumps(
        {
            "seed": seed,
            "pulls": len(storm.pulls),
            "took_s": round(storm.took_s, 1),
            "events": dict(storm.blows),
            "faults_met": dict(storm.registry.faults.met),
            "attempts": dict(sorted(Counter(pull.attempts for pull in storm.pulls).items())),
            "ranges": len(storm.registry.ranges()),
            "manifest_looks": storm.registry.looks(),
            "overhead_percent": account.overhead_percent,
            **asdict(account),
        },
        indent=1,
    )
    path = os.environ.get("ARASUL_STORM_REPORT")
    if path:
        Path(path).write_text(content + "\n", encoding="utf-8")
    return content


def own_lines(storm: Storm) -> str:
    """What the daemon itself logged, without the engine's lines."""
    return "\n".join(line for line in storm.daemon.log_text().splitlines() if '"source":"ollama"' not in line)


def _jobs(storm: Storm) -> list[dict[str, str]]:
    jobs: list[dict[str, str]] = storm.daemon.get("/api/models/pulls").json()["pulls"]
    return jobs


def _is_whole(store: Path, digest: str) -> bool:
    blob, found = blob_path(store, digest), hashlib.sha256()
    if not blob.exists():
        return False
    with blob.open("rb") as content:
        while chunk := content.read(1024 * 1024):
            found.update(chunk)
    return f"sha256:{found.hexdigest()}" == digest
