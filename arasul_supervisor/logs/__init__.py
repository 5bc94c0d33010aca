"""The engine's log: followed, kept, passed on, and read for outcomes."""

from __future__ import annotations
