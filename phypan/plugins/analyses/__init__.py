"""Questions to a dump."""
