"""Records to bytes and back: one module for each format, named as its specification names it.

Headers, of which there is one, are declared with Construct. Tables, of which there are thousands,
are read with the standard library's struct: they must be readable on a POWER host without numpy.
No module here opens a file or knows what a dump is.
"""
