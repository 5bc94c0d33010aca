"""What the looks have shown over time. Pure."""
