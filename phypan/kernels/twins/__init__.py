"""The kernels again, vectorised over numpy: for hosts without numba, and the oracle of the tests.

They share the names of places and codes with the scalar kernels, and no logic.
"""
