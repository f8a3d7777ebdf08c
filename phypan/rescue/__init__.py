"""Rescue: take the dump that waits, put it where it is safe, give memory back, lose nothing.

The order is always: bytes at the target and certain to be there, that in the journal and durable,
then the memory given back. So a capture may be stopped at any instant; the next one with `resume`
reads the journal, goes on behind what is certain, and the file becomes what it would have been.
"""
