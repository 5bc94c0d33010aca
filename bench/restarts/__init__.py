"""Benches of owning a process: restarts, survivors, launches and what an idle supervisor costs."""
