"""What makes a GPU invisible to Ollama: facts that are gathered, and checks that are pure."""
