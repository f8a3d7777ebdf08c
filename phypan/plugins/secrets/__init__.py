"""Secrets that `phypan redact` looks for."""
