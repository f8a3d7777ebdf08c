"""Pages: what a dump has of each, and how pages are stored, packed and found again."""
