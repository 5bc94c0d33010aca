"""Benches of what grows: models, watchers, the log, the uptime."""
