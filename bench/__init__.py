"""Measurements of the whole program, side by side with others: `python -m bench`."""
