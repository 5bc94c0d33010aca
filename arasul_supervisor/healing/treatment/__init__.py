"""Which cure comes next, whether it helped, and the hands that do it."""
