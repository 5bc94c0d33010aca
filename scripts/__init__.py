"""What `make` runs: standard library only."""
