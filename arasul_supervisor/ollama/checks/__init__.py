"""Checks of the installed models: verify compares blobs with their digests, repair fetches the broken ones anew."""
