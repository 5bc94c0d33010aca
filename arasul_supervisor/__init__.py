"""arasul-supervisor owns the Ollama process of one box and tells the truth about it."""

from __future__ import annotations

__version__ = "0.1.0"
