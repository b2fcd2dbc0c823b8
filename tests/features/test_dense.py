"""A card with thousands of payments: its statistics are those of its newest payments, its distinct counts bounded."""

import numpy as np
import pytest
import worlds

from features.catalogue import NAMES
from features.entities import ENTITIES, WHO
from features.flow import Flow
from features.inputs import Placed
from features.records import PAID, empty
from features.ring import RESOLUTION
from features.state import Spec
from features.statistics import PAYMENT
from features.windows import DAY_MS, WINDOWS

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)
CARD = next(e for e in ENTITIES if e.name == "card")
N, DAYS, STEP, BITS = 5000, 45, 41, 64
COUNTED = ("1h", "24h", "7d", "30d")


class Checked:
    """Payments of one card, taken in steps; after each step the last payment's features and what its ring holds.

    It pays at two merchants at a time and at about so many in a week, so most of a week's are in merged entries only.
    """

    def __init__(self, random, merchants):
        self.at_ms = worlds.START_MS + np.sort(random.integers(0, DAYS * DAY_MS, N))
        self.amount = random.integers(1, 100_000, N)
        stage = (self.at_ms - worlds.START_MS) * merchants // (7 * DAY_MS) + random.integers(0, 2, N)
        self.merchant = random.integers(1, 2**62, stage.max() + 1)[stage]
        records = empty(N)._replace(
            what=np.full(N, PAID, np.int8), event_ms=self.at_ms, amount=self.amount, who=np.ones((N, len(WHO)), int)
        )
        records.who[:, WHO.index("merchant")] = self.merchant
        records.payment[:, PAYMENT.index("amount_minor")] = self.amount
        events = Placed(records, np.arange(N), self.at_ms)
        flow, self.steps = Flow(SPEC, of=[CARD], own=False), []
        for piece in worlds.pieces(events, np.arange(STEP, N, STEP)):
            vector = flow.take(piece, worlds.nobody())[-1]
            s = flow.states["card"].arrays
            record = s.record[0]
            merged = record["merged_length"] > 0
            newest = int(s.merged[record["merged_at"] + record["merged_length"] - 1]["last"]) if merged else -1
            self.steps.append((int(piece.offset[-1]), dict(zip(NAMES, vector.tolist(), strict=True)), newest))

    def within(self, i, length_ms):
        """Indices of the payments before payment i that are less than a time older."""
        return slice(int(np.searchsorted(self.at_ms[:i], self.at_ms[i] - length_ms, side="right")), i)


def standard_error(n):
    """Of linear counting over 64 bits (Whang, Vander-Zanden and Taylor 1990), in counts."""
    load = n / BITS
    return np.sqrt(BITS * (np.exp(load) - load - 1))


@pytest.fixture(params=[4, 20, 60])
def dense(request, seed):
    return Checked(np.random.default_rng([seed, 96, request.param]), request.param)


def test_counts_sums_and_maxima_lie_between_those_of_the_window_and_of_one_64th_more(dense):
    wider = 0
    for i, found, _ in dense.steps:
        for window in COUNTED:
            least = dense.within(i, WINDOWS[window])
            most = dense.within(i, WINDOWS[window] * (RESOLUTION + 1) / RESOLUTION)
            count = found[f"card_tx_count_{window}"]
            assert least.stop - least.start <= count <= most.stop - most.start
            wider += count > least.stop - least.start
            # Exactly the newest so many payments are in all of the window's statistics.
            seen = dense.amount[i - int(count) : i]
            assert found[f"card_amount_sum_{window}"] == np.float32(seen.sum())
            if window in ("24h", "7d"):
                assert found[f"card_amount_max_{window}"] == (
                    seen.max() if len(seen) else pytest.approx(np.nan, nan_ok=True)
                )
                expected = seen.std(ddof=1) if len(seen) > 1 else np.nan
                assert found[f"card_amount_std_{window}"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
            if window == "30d" and len(seen) > 1:
                expected = (dense.amount[i] - seen.mean()) / seen.std(ddof=1)
                assert found["card_amount_zscore_30d"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert wider > 10, "nothing was merged at the edge of a window"


def test_a_distinct_count_of_single_events_is_exact_and_a_sketched_one_within_five_standard_errors(dense):
    exact = sketched = 0
    for i, found, newest_merged in dense.steps:
        for window in ("1h", "24h", "7d"):
            length = WINDOWS[window]
            count = found[f"card_merchants_distinct_{window}"]
            least = len(np.unique(dense.merchant[dense.within(i, length)]))
            if newest_merged <= dense.at_ms[i] - length:
                assert count == least
                exact += 1
                continue
            most = len(np.unique(dense.merchant[dense.within(i, length * (RESOLUTION + 1) / RESOLUTION)]))
            # Five, as the estimate is skewed upwards and a run looks at hundreds of sets of merchants, of which one in
            # some thousands is more than four away; one more for rounding, as a sketch knows only whole bits.
            assert least - 5 * standard_error(least) - 1 <= count <= most + 5 * standard_error(most) + 1
            sketched += 1
    assert min(exact, sketched) > 50
