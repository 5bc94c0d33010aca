"""A child process of our own that answers requests with lines of JSON, for what may hang or weigh too much in here."""
