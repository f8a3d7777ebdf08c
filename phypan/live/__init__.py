"""A running system in which a dump waits: what its files show, and what it takes back."""
