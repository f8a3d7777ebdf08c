"""Ways to open a dump."""
