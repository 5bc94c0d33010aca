"""The environment becomes one frozen `Settings`: all faults at once, and where each value came from."""

from __future__ import annotations

from arasul_supervisor.settings.describe import SettingRow, describe
from arasul_supervisor.settings.effective import Settings, SettingsError
from arasul_supervisor.settings.load import load_settings, warnings_for

__all__ = ["SettingRow", "Settings", "SettingsError", "describe", "load_settings", "warnings_for"]
