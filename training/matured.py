"""What challenger and champion decide on payments whose labels had time to arrive.

In shadow: from silver.shadow, silver.payments and silver.labels, without Spark. On history: from a training set.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decisions.bundle import Model
from decisions.outcome import bands, edges
from expectations.rules.rule_set import OUTCOMES
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.label_ledger import COLUMNS, Trust, findings
from lakehouse.moments import DAY_MS
from lakehouse.write_offs import undecided
from training.data import Dataset, Matrix
from training.paired import Doubles, Flags, Ints, Pairs

NEW_CUSTOMER_D = 90
"""An account is new for so long after it was opened."""
BANDS_MINOR = (2_000, 10_000, 50_000)
"""Cuts between the bands of amounts, minor units of the base currency."""
BAND_NAMES = ("amount to 20", "amount to 100", "amount to 500", "amount above 500")
LATENCY_ROWS = 200
"""Payments that a challenger scores one by one on history, as most come."""


@dataclass(frozen=True)
class Matured:
    """Payments that both models decided, with what is known of them; a row a payment, in order of event time."""

    pairs: Pairs
    segments: Mapping[str, Flags]
    champion_score: Doubles
    challenger_score: Doubles
    scoring_us: Doubles
    """Time of the challenger's scores, of some payments."""
    until_ms: int
    """Payments before that are matured."""


def clock_ms(root: str) -> int | None:
    """The engine's clock as far as silver has come; None before there is anything."""
    newest = pc.max(delta.rows(root, silver.BALANCE, ["engine_clock"]).column("engine_clock"))
    return None if not newest.is_valid else int(newest.cast(pa.int64()).as_py()) // 1000


def read(root: str, champion: str | None, challenger: str, label_gap_d: int, trust: Trust) -> Matured:
    """The matured payments of one challenger beside one champion; none before there are any."""
    as_of = clock_ms(root) or 0
    until = as_of - label_gap_d * DAY_MS
    moment = pa.scalar(until * 1000, pa.timestamp("us", "UTC"))
    theirs = (pc.field("model_digest") == challenger) & (pc.field("event_time") < moment)
    theirs &= pc.field("champion_digest").is_null() if champion is None else pc.field("champion_digest") == champion
    columns = ["transaction_id", "event_time", "card_token", "amount_base_minor", "outcome", "champion_outcome"]
    scores = ["score", "champion_score", "scoring_us"]
    said = delta.rows(root, silver.SHADOW, [*delta.PLACE, *columns, *scores], theirs)
    about = ["channel", "merchant_country", "issuer_country", "account_opened_on"]
    paid = delta.rows(root, silver.PAYMENTS, [*delta.PLACE, *about], pc.field("event_time") < moment)
    rows = said.join(paid, list(delta.PLACE), join_type="inner") if said.num_rows else said
    # Whether exploration let a payment through, nobody knows where its decision was written off.
    for span in undecided(root):
        rows = rows.filter(~delta.within(span))
    if not rows.num_rows:
        nothing = np.zeros(0, np.int64)
        no_score = np.zeros(0)
        pairs = Pairs(nothing, nothing, nothing > 0, nothing, nothing, nothing)
        return Matured(pairs, {}, no_score, no_score, no_score, until)
    # What exploration let through was declined as far as the champion goes.
    explored = pc.field("explored_from").is_valid()
    told = delta.rows(root, silver.DECISIONS, [*delta.PLACE, "explored_from"], explored).combine_chunks()
    rows = rows.join(told, list(delta.PLACE), join_type="left outer") if told.num_rows else rows
    if told.num_rows:
        champions = pc.coalesce(rows.column("explored_from"), rows.column("champion_outcome"))
        rows = rows.set_column(rows.schema.get_field_index("champion_outcome"), "champion_outcome", champions)
    rows = rows.sort_by([("event_time", "ascending"), ("offset", "ascending")])
    found = findings(delta.rows(root, silver.LABELS, COLUMNS), as_of, trust)
    frauds = found.filter(found.column("is_fraud")).column("transaction_id").combine_chunks()
    fraud = pc.is_in(rows.column("transaction_id"), value_set=frauds).to_numpy()
    pairs = Pairs(
        rows.column("event_time").cast(pa.int64()).to_numpy() // 1000,
        rows.column("card_token").combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        fraud,
        rows.column("amount_base_minor").to_numpy(),
        _outcomes(rows.column("champion_outcome")),
        _outcomes(rows.column("outcome")),
    )
    champion_score, score, us = (rows.column(name).to_numpy() for name in ("champion_score", "score", "scoring_us"))
    return Matured(pairs, _segments(rows, pairs), champion_score, score, us, until)


def held_out(
    found: Dataset, start_ms: int, champion: Model, challenger: Model, label_gap_d: int, most: int | None = None
) -> Matured:
    """What two models make of the matured payments of a training set from a moment on, by their cuts alone.

    A test of models that were fitted before: history instead of shadow, without rules, lists and segments by channel.
    With `most`, of the newest ones.
    """
    until = found.as_of_ms - label_gap_d * DAY_MS
    rows = found.between(start_ms, until)
    rows = rows if most is None else rows[-most:]
    scores = [model.scores(found.X[rows]).ensemble for model in (champion, challenger)]
    alone = rows[:: max(1, -(-len(rows) // LATENCY_ROWS))]
    us = np.array([_scoring_us(challenger, found.X[at : at + 1]) for at in alone.tolist()])
    outcomes = [bands(s, edges(m.manifest["cuts"])) for s, m in zip(scores, (champion, challenger), strict=True)]
    amount = found.amount_base_minor[rows]
    pairs = Pairs(found.event_ms[rows], found.card[rows], found.is_fraud[rows], amount, *outcomes)
    return Matured(pairs, amount_bands(amount), scores[0], scores[1], us, until)


def _scoring_us(model: Model, X: Matrix) -> float:
    began = time.perf_counter()
    model.scores(X)
    return (time.perf_counter() - began) * 1e6


def amount_bands(amount_minor: Ints) -> dict[str, Flags]:
    """By name, which payments are of a band of amounts, base currency; bands without any are left out."""
    band = np.digitize(amount_minor, BANDS_MINOR, right=True)
    return {name: band == at for at, name in enumerate(BAND_NAMES) if (band == at).any()}


def _outcomes(column: pa.ChunkedArray) -> Ints:
    found: Ints = pc.index_in(column, value_set=pa.array(OUTCOMES)).to_numpy().astype(np.int64)
    return found


def _segments(rows: pa.Table, pairs: Pairs) -> dict[str, Flags]:
    """By name, which payments belong to a segment: channel, amount band, home or abroad, new customer."""
    found: dict[str, Flags] = {}
    channel = rows.column("channel")
    for name in sorted(channel.unique().to_pylist()):
        found[f"channel {name}"] = pc.equal(channel, name).to_numpy()
    found |= amount_bands(pairs.amount_minor)
    abroad: Any = pc.fill_null(pc.not_equal(rows.column("merchant_country"), rows.column("issuer_country")), False)
    found["abroad"], found["at home"] = abroad.to_numpy(), ~abroad.to_numpy()
    opened = rows.column("account_opened_on").cast(pa.int32()).cast(pa.int64()).fill_null(-(2**31)).to_numpy()
    found["new customer"] = pairs.event_ms // DAY_MS - opened < NEW_CUSTOMER_D
    return {name: flags for name, flags in found.items() if flags.any()}
