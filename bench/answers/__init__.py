"""Benches of the management port: answers, pass-through, pauses of the loop."""
