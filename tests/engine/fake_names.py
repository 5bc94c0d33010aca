"""What the models of the fake engine are called, and where their weights lie."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engine.fake_http import Request


def model_of(request: Request) -> str:
    """The model that a request names, with its tag."""
    body = request.json()
    return tagged(str(body.get("model") or body.get("name") or ""))


def tagged(name: str) -> str:
    """The name with its tag."""
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def digest_of(name: str) -> str:
    """64 hex digits that belong to that name."""
    return hashlib.sha256(name.encode()).hexdigest()


def blob_of(name: str) -> str:
    """The weights of a model: by its manifest in OLLAMA_MODELS, or a path that nothing lies at."""
    store = os.environ.get("OLLAMA_MODELS", "")
    model, _, tag = name.partition(":")
    folders = () if "/" in model else ("registry.ollama.ai", "library")
    try:
        with open(os.path.join(store, "manifests", *folders, model, tag), encoding="utf-8") as file:
            digest = json.load(file)["layers"][0]["digest"]
    except OSError:
        return f"/models/blobs/sha256-{digest_of(name)}"
    return os.path.join(store, "blobs", digest.replace(":", "-"))
