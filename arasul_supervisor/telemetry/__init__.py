"""What the machine says about itself."""

from __future__ import annotations
