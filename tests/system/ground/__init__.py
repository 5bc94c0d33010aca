"""The ground of the system tests: a base file system, and the homes that are booted or built from it."""
