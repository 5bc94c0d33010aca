"""The sources of GPU figures."""

from __future__ import annotations
