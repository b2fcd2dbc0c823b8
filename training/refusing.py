"""What no model is to be fitted on: each is refused before anything is fitted, and the serving model stays."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from features.catalogue import NAMES
from training.data import DataRefused, Dataset, text_of
from training.split import Split


def refuse_unfit(data: Dataset, needed: Sequence[str], now_ms: int) -> None:
    """DataRefused where a training set is of the future, has one class only, or a needed feature that says nothing.

    `needed` are features that vary wherever there are payments; one that is the same everywhere, or missing
    everywhere, tells of a broken source. Other features may be empty: a recording without devices has none of theirs.
    """
    if data.as_of_ms > now_ms:
        raise DataRefused(
            f"The training set is as of {text_of(data.as_of_ms)}, which is after now ({text_of(now_ms)}).",
            "Set this machine's clock, or make the training set as of a moment that has passed: python -m gold.as_of",
        )
    frauds = int(data.is_fraud.sum())
    if frauds == 0:
        raise DataRefused(
            f"The training set has {len(data):,} payments and no fraud label.",
            "Labels have to arrive first: python -m silver.job, gold.job; gold.label_maturity says what is due.",
        )
    if frauds == len(data):
        raise DataRefused(
            f"All {len(data):,} payments of the training set are labelled as fraud; expected are genuine ones too.",
            "Look at silver.labels by source: what lands there is not only chargebacks.",
        )
    for name in needed:
        if name not in NAMES:
            raise DataRefused(f"training.needed_features names {name}, which is no feature.", "features/REFERENCE.md")
        known = data.X[:, NAMES.index(name)]
        known = known[~np.isnan(known)]
        if len(known) == 0 or known.min() == known.max():
            found = "missing in every payment" if len(known) == 0 else f"{known[0]:g} in every payment that has it"
            raise DataRefused(
                f"Feature {name} is {found}; expected are different values (training.needed_features).",
                "Look at what it is made from in silver.payments, then: python -m features.job, python -m gold.job",
            )


def refuse_overlap(data: Dataset, split: Split) -> None:
    """DataRefused where a payment is in the training days and in the test days too, whatever its time says."""
    ids = data.transaction_id
    both = ids.take(split.train).filter(pc.is_in(ids.take(split.train), value_set=ids.take(split.test)))
    if split.train_end_ms > split.test_start_ms or len(both):
        which = f"{len(both)} payments, first {both[0]}" if len(both) else "days"
        raise DataRefused(
            f"Training until {text_of(split.train_end_ms)} and test from {text_of(split.test_start_ms)} share {which}.",
            "A payment is tested once and never learnt from before: make gold.training_set again, python -m gold.job",
        )
