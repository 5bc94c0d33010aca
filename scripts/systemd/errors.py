"""Why the install step stops, in sentences that say what to do."""

from __future__ import annotations


class CannotInstall(Exception):
    """What stands against it on this box; nothing of importance has been changed."""


class Failed(Exception):
    """What could not be done, halfway through."""
