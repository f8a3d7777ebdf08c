"""Conversion: pages of a dump to a writer and a sink; checking and repairing what was written."""

from phypan.conversion import pipeline as pipeline
