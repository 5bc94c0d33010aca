"""Owning one process tree: start it, watch it, end it whole."""

from __future__ import annotations
