"""XGBoost's trees of a bundle, walked as flat arrays, with exact contributions."""

from dataclasses import dataclass

import orjson

from decisions.contributions import Explainer, covers_of_xgboost, explainer
from decisions.forests import Doubles, Forest, Matrix, margins, of_xgboost


@dataclass(frozen=True)
class Boosted:
    """The trees of a bundle of kind `xgboost`."""

    forest: Forest
    base_margin: float
    why: Explainer

    @staticmethod
    def of(raw: bytes) -> "Boosted":
        """From XGBoost's own JSON."""
        parsed = orjson.loads(raw)
        forest, base = of_xgboost(parsed)
        return Boosted(forest, base, explainer(forest, covers_of_xgboost(parsed, forest)))

    @property
    def expected(self) -> float:
        """The mean margin of the payments it was fitted on."""
        return self.base_margin + self.why.expected

    def margins(self, X: Matrix) -> Doubles:
        """Log odds of vectors (n, features)."""
        return margins(self.forest, self.base_margin, X)

    def contributions(self, X: Matrix) -> Doubles:
        """(n, features): exact Shapley values; a row's sum is its margin less `expected`."""
        return self.why.contributions(X)
