"""The management port: one file per resource."""

from __future__ import annotations
