"""The records of what happened, in memory and on disk."""
