"""The crashed kernel as an object: its symbols, its types, and a drgn.Program over its memory.

drgn is imported inside of functions only: what can be done without it is done without it.
"""
