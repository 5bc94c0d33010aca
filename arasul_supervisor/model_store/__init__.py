"""The folder that Ollama keeps its models in, seen from outside: manifests, blobs, unfinished parts, room."""
