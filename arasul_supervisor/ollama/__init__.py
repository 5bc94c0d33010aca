"""Everything that knows Ollama's API or its generations."""

from __future__ import annotations
