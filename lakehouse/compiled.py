"""How kernels are compiled."""

from numba import njit

compiled = njit(cache=True, _nrt=False)
"""Kept on disk, and without reference counts: a kernel takes dozens of arrays and hands them on, and counting them up
and down costs more than its work. Such a function makes no array; who calls it holds those that it works on."""
