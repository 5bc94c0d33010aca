"""Puts the daemon under systemd: what is on the box, what follows from it, and the doing of it."""
