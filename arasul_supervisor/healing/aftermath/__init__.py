"""What follows an end of the engine: an incident, models that come back, and one that may be the killer."""
