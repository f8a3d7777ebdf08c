"""Sessions over a dump: phypan's shell, drgn's own command line, and plain drgn."""
