"""What is wrong, told from slow, with the evidence. Pure."""
