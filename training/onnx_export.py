"""A verified bundle as one ONNX file that gives the engine's scores, for whoever scores elsewhere.

    python -m training.onnx_export --digest SHA256 --to model.onnx

Both models, their calibration and weights are in it: vectors of the feature set in, `score`, `score_xgboost` and
`score_isolation_forest` out; missing values are NaN. The engine itself never reads it. What is written agrees with the
engine within 1e-5 on the bundle's own test vectors and on made ones, as ONNX Runtime computes it here; else nothing is
written. Needs the packages of the extra `onnx`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from decisions.boosted import Boosted
from decisions.bundle import Model, self_test_vectors
from decisions.forests import Matrix
from decisions.network import needed
from decisions.shelf import Shelf
from features.catalogue import NAMES
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.errors import Terminal
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings

TOLERANCE = 1e-5
SAMPLE = 2_000
"""Made vectors, by what the bundle's own ones and its trees' questions tell of the features' values."""
SEED = 0
MISSING = 0.1


class ExportRefused(Terminal):
    """The exported graph is not the engine's model."""


def sample(model: Model) -> Matrix:
    """(SAMPLE, features): values at, below and above the trees' thresholds, extremes, and a tenth missing; seeded."""
    random = np.random.default_rng(SEED)
    own = self_test_vectors(model.manifest)
    X = own[random.integers(len(own), size=SAMPLE)]
    assert model.isolation is not None
    forests = [model.isolation, *([model.supervised.forest] if isinstance(model.supervised, Boosted) else [])]
    asked = [forest.child != np.arange(len(forest.child)) for forest in forests]
    feature = np.concatenate([forest.feature[at] for forest, at in zip(forests, asked, strict=True)])
    threshold = np.concatenate([forest.threshold[at] for forest, at in zip(forests, asked, strict=True)])
    for row in range(SAMPLE if len(feature) else 0):
        some = random.integers(len(feature), size=min(len(feature), X.shape[1]))
        at = threshold[some]
        side = random.integers(3, size=len(some))
        X[row, feature[some]] = np.where(side == 0, at, np.nextafter(at, np.where(side == 1, -np.inf, np.inf)))
    extreme = np.array([0, -0.0, 1, -1, np.inf, -np.inf, *np.finfo(np.float32).max * np.array([1, -1])], np.float32)
    odd = random.random(X.shape) < MISSING
    X[odd] = random.choice(extreme, int(odd.sum()))
    X[random.random(X.shape) < MISSING] = np.nan
    return X.astype(np.float32)


def refuse_other(raw: bytes, model: Model, X: Matrix) -> float:
    """The largest difference of a score between graph and engine; ExportRefused where it is above TOLERANCE."""
    import onnxruntime

    from training.onnx_graph import ANOMALY, INPUT, SCORE, SUPERVISED

    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    found = session.run([SCORE, SUPERVISED, ANOMALY], {INPUT: X})
    scores = model.scores(X)
    expected = (scores.ensemble, scores.supervised, scores.isolation_forest)
    worst = max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))
    if not worst <= TOLERANCE:
        raise ExportRefused(
            f"The graph of model {model.digest[:12]} differs from the engine by {worst:g} over {len(X)} vectors; "
            f"expected at most {TOLERANCE:g}.",
            "Nothing was written; look at the versions of onnx and onnxruntime (pyproject.toml, extra `onnx`).",
        )
    return worst


def exported(settings: Settings, digest: str, to: Path) -> float:
    """Write the graph of a verified bundle; its largest difference to the engine's scores."""
    needed("An export")
    from training.onnx_graph import graph_of

    model = Shelf.of(settings).loaded(digest)
    manifest = model.manifest
    about = {
        "bundle_digest": digest,
        "feature_set": manifest["feature_set"],
        "features": ",".join(NAMES),
        "cuts": orjson.dumps(manifest["cuts"]).decode(),
    }
    raw = graph_of(model, about).SerializeToString(deterministic=True)
    worst = refuse_other(raw, model, np.concatenate([self_test_vectors(manifest), sample(model)]))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(raw)
    return worst


def main(argv: Sequence[str]) -> int:
    """Export, and say how far the graph is from the engine."""
    parser = argparse.ArgumentParser(
        prog="python -m training.onnx_export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--digest", required=True, help="of the bundle in the model store")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="where to write the graph")
    given = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "training")
        with recorded(settings, "training.onnx_export"):
            worst = exported(settings, given.digest, given.to)
        print(f"{given.to}: model {given.digest[:12]}, at most {worst:.1e} from the engine's scores")

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
