"""XGBoost as the supervised model of a bundle: fitted, written, fitted again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import xgboost as xgb

from decisions.bundle import XGBOOST_KIND
from training.data import Matrix
from training.fit import Doubles, Flags, margins_of, refitted
from training.importance import shares


@dataclass(frozen=True)
class Boosted:
    """A booster over all features, with its settings and number of trees."""

    booster: xgb.Booster
    parameters: Mapping[str, Any]
    trees: int
    kind = XGBOOST_KIND

    def content(self) -> bytes:
        """XGBoost's own JSON."""
        return bytes(self.booster.save_raw("json"))

    def margins(self, X: Matrix) -> Doubles:
        """Raw margins (log odds)."""
        return margins_of(self.booster, X)

    def described(self) -> dict[str, Any]:
        """What fits it again."""
        return {"trees": self.trees, **self.parameters}

    def again(self, X: Matrix, fraud: Flags, rows: npt.NDArray[Any], seed: int) -> "Boosted":
        """The same settings and number of trees on these rows."""
        return replace(self, booster=refitted(X, fraud, rows, self.parameters, self.trees, seed))

    def importance(self, X: Matrix) -> Doubles:
        """(features,): share of the total gain, whatever the vectors."""
        return shares(self.booster)
