"""Benches of the engine's log."""
