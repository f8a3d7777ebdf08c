"""Ways to show rows."""
