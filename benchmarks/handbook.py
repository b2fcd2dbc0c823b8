"""The protocol of the Fraud Detection Handbook (Le Borgne and others 2022, chapters 3 to 5), and what it published.

Seven days of training, seven days that labels take, seven days of test. On every test day the cards are left out that
had a fraud between the beginning of training and eight days before: they are known and blocked.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import xgboost as xgb
from sklearn.ensemble import RandomForestClassifier

from benchmarks.replayed import Replayed
from lakehouse.moments import DAY_MS
from training.ranking import Doubles, Flags, Ints, Ranked, card_days, card_precision

WEEK_D = 7
TEST_START = "2018-08-08"
FOLDS = ("2018-07-04", "2018-07-11", "2018-07-18", "2018-07-25")
"""First test days of the baseline split and of the four validation folds."""
NAMES = ("auc", "ap", "cp100")
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "logistic": {"auc": 0.871, "ap": 0.606, "cp100": 0.291, "folds": {"auc": 0.867, "ap": 0.613, "cp100": 0.279}},
    "random_forest": {"auc": 0.867, "ap": 0.658, "cp100": 0.287, "folds": {"auc": 0.880, "ap": 0.694, "cp100": 0.289}},
    "xgboost": {"auc": 0.862, "ap": 0.639, "cp100": 0.273, "folds": {"auc": 0.887, "ap": 0.708, "cp100": 0.289}},
    "neural_network": {"folds": {"auc": 0.881, "ap": 0.701, "cp100": 0.288}},
}
"""Library defaults on the test week; on the folds, hyper-parameters that were chosen on these folds, by metric."""
REFERENCE = "reference_features.parquet"


class Days:
    """Days of a recording by their number since its first one."""

    def __init__(self, found: Replayed, first_day: str) -> None:
        self._first = datetime.fromisoformat(first_day).replace(tzinfo=UTC)
        self._origin_ms = int(found.data.event_ms[0]) // DAY_MS * DAY_MS
        self.of = (found.data.event_ms - self._origin_ms) // DAY_MS

    def number(self, day: str) -> int:
        """The number of a day such as 2018-08-08."""
        return (datetime.fromisoformat(day).replace(tzinfo=UTC) - self._first) // timedelta(days=1)

    def start_ms(self, number: int) -> int:
        """The first moment of a day, as the payments were shifted."""
        return self._origin_ms + number * DAY_MS


def test_rows(day: Ints, card: Ints, fraud: Flags, start: int) -> Ints:
    """The payments of the test week that begins on day `start`, without those of cards known by their day."""
    rows = []
    for one in range(start, start + WEEK_D):
        known = fraud & (day >= start - 2 * WEEK_D) & (day <= one - WEEK_D - 1)
        today = np.flatnonzero(day == one)
        rows.append(today[~np.isin(card[today], np.unique(card[known]))])
    return np.concatenate(rows)


def measured(scores: Doubles, fraud: Flags, card: Ints, day: Ints) -> dict[str, float]:
    """AUC ROC, average precision, card precision at 100 of test payments."""
    auc, precision = Ranked.of(scores, fraud).auc_and_precision(np.ones(len(scores)))
    days = card_days(scores, fraud, card, day)
    return {
        "auc": auc,
        "ap": precision,
        "cp100": card_precision(days, np.ones(int(card.max()) + 1), np.ones(len(days))),
    }


def reference_features(folder: Path, number: Ints, amount_minor: Ints) -> npt.NDArray[np.float64] | None:
    """Amount and the 14 published features of payments by number, NaN where unpublished; None without the file."""
    path = folder / REFERENCE
    if not path.exists():
        return None
    table = pq.read_table(path)
    published = table.column("transaction_id").to_numpy().astype(np.int64)
    names = [name for name in table.column_names if name != "transaction_id"]
    made = np.full((len(number), 1 + len(names)), np.nan)
    made[:, 0] = amount_minor / 100
    order = np.argsort(published)
    at = np.minimum(np.searchsorted(published[order], number), len(order) - 1)
    here = published[order][at] == number
    for column, name in enumerate(names, start=1):
        made[here, column] = table.column(name).to_numpy()[order][at][here]
    return made


def their_xgboost(X: npt.NDArray[np.float64], fraud: Flags, trees: int, depth: int, seed: int) -> Any:
    """XGBoost with the defaults of its release 1, which the book used: exact cuts, scores that begin at one half."""
    setting = {"objective": "binary:logistic", "tree_method": "exact", "base_score": 0.5}
    setting |= {"max_depth": depth, "eta": 0.3, "seed": seed, "verbosity": 0}
    booster = xgb.train(setting, xgb.DMatrix(X, fraud), trees)
    return lambda wanted: booster.predict(xgb.DMatrix(wanted))


def their_forest(X: npt.NDArray[np.float64], fraud: Flags, depth: int | None, seed: int) -> Any:
    """A random forest of 100 trees with scikit-learn's defaults."""
    forest = RandomForestClassifier(100, max_depth=depth, random_state=seed, n_jobs=-1).fit(X, fraud)
    return lambda wanted: forest.predict_proba(wanted)[:, 1]
