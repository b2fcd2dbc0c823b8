"""Makes `simulated` importable, and the worlds that several tests look at: made once, read by all."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulated import END_MS, Log, log_of

from simulator.options import Options


@pytest.fixture(scope="session")
def small() -> Log:
    """Thirty days of 600 payments, with faults."""
    return log_of(Options(END_MS, days=30, payments_per_day=600, fraud_rate=0.02, seed=3, faults=4))


@pytest.fixture(scope="session")
def usual() -> Log:
    """The default world: sixty days of 3,500 payments, 0.4 % fraud."""
    return log_of(Options(END_MS))


@pytest.fixture(scope="session")
def crowded() -> Log:
    """The default world with more than 5,000 frauds."""
    return log_of(Options(END_MS, fraud_rate=0.026))
