"""Ways to write a dump."""
