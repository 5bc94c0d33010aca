"""Benches of the telemetry."""
