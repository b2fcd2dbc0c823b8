# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One fraud, and why it was seen
#
# Opens gold of the current world, takes the known fraud with the highest score and shows what the model saw:
# its features, how unusual each is, and how much each family of features contributed.

# %%
import numpy as np
import pyarrow.compute as pc
from deltalake import DeltaTable

from decisions.shelf import Shelf
from features.catalogue import FEATURES, NAMES
from lakehouse import settings as conf
from lakehouse.contracts import gold

settings = conf.load()
root = str(conf.resolve(settings.lake.root))


def table(contract):
    return DeltaTable(contract.path(root)).to_pyarrow_table()


# %% [markdown]
# ## The payment
# The training set says what was known at its `as_of`; the scores are the champion's.

# %%
training_set, scores = table(gold.TRAINING_SET), table(gold.SCORES)
known = training_set.filter(pc.field("is_fraud")).select(["offset", "transaction_id", "event_time", "amount_base_minor"])
joined = known.join(scores.select(["offset", "score", "risk", "model_digest"]), "offset").sort_by([("score", "descending")])
fraud = joined.slice(0, 1).to_pylist()[0]
row = training_set.filter(pc.field("offset") == fraud["offset"])
vector = row.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
fraud

# %% [markdown]
# ## What is unusual about it
# The share of payments with a value at least as high, or at least as low, whichever is rarer; the rarest first.

# %%
everything = training_set.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(NAMES))
rare = []
for feature, column, value in zip(FEATURES, everything.T, vector):
    column = column[~np.isnan(column)]
    if not np.isnan(value) and len(column):
        high, low = float(np.mean(column >= value)), float(np.mean(column <= value))
        rare.append((min(high, low), "or more" if high < low else "or less", feature.name, float(value)))
for share, side, name, value in sorted(rare)[:15]:
    print(f"{name:36} {value:14.3f} {side}: {share:.3%} of all payments")

# %% [markdown]
# ## Why the model said so
# Contributions to the log odds of the model that scored it, summed by family: exact for trees, an estimate for a network.

# %%
model = Shelf.of(settings).loaded(fraud["model_digest"])
contributions = model.supervised.contributions(vector.reshape(1, -1))[0]
by_family: dict[str, float] = {}
for feature, part in zip(FEATURES, contributions):
    by_family[feature.family] = by_family.get(feature.family, 0.0) + float(part)
reasons = sorted(by_family.items(), key=lambda item: -item[1])
for family, part in reasons:
    strongest = max((f for f in zip(FEATURES, contributions) if f[0].family == family), key=lambda f: f[1])
    print(f"{family:10} {part:+.2f}   most: {strongest[0].meaning} ({strongest[1]:+.2f})")

# %%
assert model.manifest["features"] == list(NAMES)
assert reasons[0][1] > 0
