"""The catalogue earns its size on a world's data: most features say something that no other says."""

import numpy as np
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from scipy.stats import rankdata

from features.catalogue import FEATURES, NAMES
from features.feature import PATTERNS
from lakehouse.contracts import gold

AT_LEAST = {"velocity": 30, "device": 20, "behaviour": 40, "geography": 25, "history": 35, "ring": 10}
SAME = 0.999


def survivors(matrix):
    """Columns that are not constant and whose |Spearman correlation| with every earlier survivor is at most SAME."""
    # Missing is a value to the model: one below all others.
    ranks = [rankdata(column) for column in np.where(np.isnan(matrix), -np.inf, matrix).T]
    varying = [at for at, rank in enumerate(ranks) if rank.min() < rank.max()]
    correlation = np.abs(np.corrcoef([ranks[at] for at in varying]))
    kept = []
    for place in range(len(varying)):
        if not kept or correlation[place, kept].max() <= SAME:
            kept.append(place)
    return [varying[place] for place in kept]


def test_constants_and_copies_do_not_survive():
    random = np.random.default_rng(1)
    one, other = random.random(500), random.random(500)
    sparse = np.where(random.random(500) < 0.5, np.nan, 1.0)
    matrix = np.column_stack([np.ones(500), one, -3 * one + 1, other, np.exp(other), sparse, np.full(500, np.nan)])
    assert survivors(matrix) == [1, 3, 5]


@pytest.mark.parametrize("family", AT_LEAST)
def test_every_family_has_its_features(family):
    assert sum(feature.family == family for feature in FEATURES) >= AT_LEAST[family]


def test_at_least_150_features_survive_on_a_worlds_data(history):
    rows = DeltaTable(gold.VECTORS.path(history.settings.lake.root)).to_pyarrow_table(columns=["vector"])
    matrix = rows.column("vector").combine_chunks().flatten().to_numpy().reshape(-1, len(NAMES))
    assert len(matrix) > 15_000
    alive = survivors(matrix)
    assert len(alive) >= 150, sorted(set(NAMES) - {NAMES[at] for at in alive})
    assert {FEATURES[at].pattern for at in alive} == set(PATTERNS)


def test_labels_of_the_history_are_seen_by_its_later_payments(history):
    rows = DeltaTable(gold.VECTORS.path(history.settings.lake.root)).to_pyarrow_table(columns=["offset", "vector"])
    rows = rows.filter(pc.field("offset") < history.history_end)
    matrix = rows.column("vector").combine_chunks().flatten().to_numpy().reshape(-1, len(NAMES))
    for name in ("merchant_fraud_count_7d", "card_fraud_count_7d"):
        assert np.nanmax(matrix[:, NAMES.index(name)]) > 0, name
