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
    """A place on the unit sphere; NaN where latitude or longitude is."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    x, y = math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam)
    return x, y, math.sin(phi) if not math.isnan(x) else math.nan


@njit(cache=True)
def distance_km(x: float, y: float, z: float, other_x: float, other_y: float, other_z: float) -> float:
    """Great-circle distance of two unit vectors in kilometres, from their chord (exact for short ways too)."""
    dx, dy, dz = other_x - x, other_y - y, other_z - z
    chord = math.sqrt(dx * dx + dy * dy + dz * dz)
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, chord / 2))


@njit(cache=True)
def distance_to_mean_km(x: float, y: float, z: float, other_x: float, other_y: float, other_z: float) -> float:
    """Great-circle distance from a sum of unit vectors (the middle of past places) to a unit vector, in kilometres."""
    norm = math.sqrt(x * x + y * y + z * z)
    if norm == 0.0:
        return math.nan
    km: float = distance_km(x / norm, y / norm, z / norm, other_x, other_y, other_z)
    return km
