"""The platform model: a logical partition and its hypervisor, to make dumps of.

Written from LoPAR, the kernel's documents and their sources, as the reader is; the two share
phypan.formats and nothing else, so that one can be tested with the other.
"""
