"""Places: where a dump may go, near or far, and when it is certain that it is there.

A Target takes bytes at offsets; a Stream takes them from front to back only. What can do no more
than that gets the flattened form (`flat`), so that whoever fills a Target need not know.
"""
