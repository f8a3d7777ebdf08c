"""Slow readers of the formats, written from the documents alone and sharing no code with phypan."""
