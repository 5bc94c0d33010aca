"""Asks the witnesses, each within its bound; what they say are values."""
