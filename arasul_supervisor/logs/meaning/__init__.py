"""What the engine's lines mean, and what of them may be shown: bytes in, values out; no effects."""

from __future__ import annotations
