"""Fitted models -> a signed bundle in the store."""

from pathlib import Path
from typing import Any

import numpy as np

from decisions import bundle
from decisions.bundle import Model
from features import snapshot
from features.catalogue import NAMES, feature_set_hash
from lakehouse.signing import Signer
from training.data import Matrix
from training.fit import Fitted

SELF_TEST_ROWS = 8


def model_of(fitted: Fitted, cuts: dict[str, float], digest: str = "") -> Model:
    """The fitted models as the engine scores them."""
    manifest = {
        "kind": fitted.supervised.kind,
        "weights": fitted.weights,
        "calibration": fitted.calibration,
        "isolation_expected_path": fitted.isolation_expected_path,
        "cuts": cuts,
    }
    return Model.of(digest, manifest, fitted.supervised.content()).with_anomaly(fitted.isolation, fitted.medians)


def packed(
    store: Path,
    scratch: Path,
    fitted: Fitted,
    cuts: dict[str, float],
    tested_on: Matrix,
    about: dict[str, Any],
    author: Signer,
) -> str:
    """Write and sign the bundle; its digest. `about` joins the manifest: data version, split, metrics."""
    kind, model = fitted.supervised.kind, model_of(fitted, cuts)
    rows = tested_on[:: max(1, len(tested_on) // SELF_TEST_ROWS)][:SELF_TEST_ROWS]
    arrays = scratch / bundle.ISOLATION
    snapshot.write(
        arrays,
        {"kind": "isolation forest"},
        {**snapshot.prefixed(fitted.isolation.arrays(), "forest"), "medians": fitted.medians},
    )
    tested = model.scores(rows)
    manifest = {
        **about,
        **model.manifest,
        "feature_set": feature_set_hash(),
        "features": list(NAMES),
        kind: fitted.supervised.described(),
        "self_test": {
            "vectors": [[None if np.isnan(x) else float(x) for x in row] for row in rows],
            "scores": tested.ensemble.tolist(),
            kind: tested.supervised.tolist(),
        },
    }
    files = {bundle.KINDS[kind].file: fitted.supervised.content(), bundle.ISOLATION: arrays.read_bytes()}
    arrays.unlink()
    return bundle.write(store, files, manifest, author)
