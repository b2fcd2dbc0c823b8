"""What a feature says of itself."""

import pytest

from features.catalogue import FEATURES


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("card_tx_count_24h", "24h"),
        ("card_tx_burst_1h", "24h"),  # of 1h and 24h
        ("customer_amount_to_mean_7d", "7d"),  # the payment's amount, over a window
        ("card_life_tx_count", "life"),
        ("amount_minor", "-"),
    ],
)
def test_a_features_window_is_the_longest_that_it_looks_at(name, window):
    (feature,) = [feature for feature in FEATURES if feature.name == name]
    assert feature.window == window
