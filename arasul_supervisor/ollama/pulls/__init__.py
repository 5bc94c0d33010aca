"""The pulls of the daemon: jobs that outlive who asked for them, the engine and the daemon itself."""
