"""The transcendental functions of the kernel, in one place, without fast-math, so that every driver gets equal bits."""

import math

import numpy as np
from numba import njit

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (IUGG)."""

SKETCH_BITS = 64
SKETCH_COUNTS = np.array(
    [round(-SKETCH_BITS * math.log(max(zeros, 0.5) / SKETCH_BITS), 3) for zeros in range(SKETCH_BITS + 1)]
)
"""Distinct values by number of zero bits (linear counting, Whang et al. 1990); full sketches read as 310."""


@njit(cache=True)
def unit_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    """A place on the unit sphere."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)


@njit(cache=True)
def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance in kilometres (haversine formula)."""
    phi, other_phi = math.radians(latitude), math.radians(other_latitude)
    half_phi = math.sin((other_phi - phi) / 2)
    half_lam = math.sin(math.radians(other_longitude - longitude) / 2)
    h = half_phi * half_phi + math.cos(phi) * math.cos(other_phi) * half_lam * half_lam
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


@njit(cache=True)
def distance_to_mean_km(x: float, y: float, z: float, latitude: float, longitude: float) -> float:
    """Great-circle distance from a sum of unit vectors (the middle of past places) to a place, in kilometres."""
    norm = math.sqrt(x * x + y * y + z * z)
    if norm == 0.0:
        return math.nan
    ux, uy, uz = unit_vector(latitude, longitude)
    cosine = (x * ux + y * uy + z * uz) / norm
    return EARTH_RADIUS_KM * math.acos(min(1.0, max(-1.0, cosine)))
