"""What phypan itself offers, through the hooks that a stranger's plugin uses.

Modules here import the public API (phypan, phypan.formats) and nothing else of phypan.
"""
