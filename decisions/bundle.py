"""A model as a content-addressed, signed bundle of plain bytes: verified before anything of it is parsed.

    <store>/<digest>/manifest.json       what the model is, and the SHA-256 of every other file
    <store>/<digest>/manifest.signature  key id and Ed25519 signature of the author over manifest.json
    <store>/<digest>/xgboost.json        XGBoost's own JSON
    <store>/<digest>/isolation.arrays    the isolation forest as flat arrays (the format of features/snapshot.py)

The digest is the SHA-256 of manifest.json, so a decision that names it names every byte. No pickle anywhere.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from decisions.forests import Doubles, Forest, Matrix, margins, of_xgboost, path_lengths, sigmoids
from features import snapshot
from features.catalogue import NAMES, feature_set_hash
from lakehouse.errors import BundleRefused, SnapshotRefused
from lakehouse.keys import write_private
from lakehouse.signing import Signer, Trust

MANIFEST, SIGNATURE, XGBOOST, ISOLATION = "manifest.json", "manifest.signature", "xgboost.json", "isolation.arrays"
FORMAT = 2
CHAMPION = "champion"
DIGEST_TAG = "bundle_digest"
"""The registry's alias of the serving model, and the tag by which a version names its bundle."""
SELF_TEST_TOLERANCE = 1e-9
SCALE = 1_000_000
"""Scores are rounded to millionths, in the record and before they are compared with a cut."""


@dataclass(frozen=True)
class Scores:
    """Calibrated scores in [0, 1], rounded to 1e-6."""

    ensemble: Doubles
    xgboost: Doubles
    isolation_forest: Doubles


@dataclass(frozen=True)
class Model:
    """A verified model, ready to score."""

    digest: str
    manifest: Mapping[str, Any]
    xgboost: Forest
    base_margin: float
    isolation: Forest
    medians: Matrix

    def scores(self, X: Matrix) -> Scores:
        """Scores of vectors (n, features); the same bits for a row alone and in a batch."""
        calibration, weights = self.manifest["calibration"], self.manifest["weights"]
        margin = margins(self.xgboost, self.base_margin, X)
        # The isolation forest was fitted on known values: what is missing takes the training median.
        filled = np.where(np.isnan(X), self.medians, X)
        length = path_lengths(self.isolation, filled)
        anomaly = -length / self.manifest["isolation_expected_path"]
        one = sigmoids(margin, *calibration["xgboost"])
        other = sigmoids(anomaly, *calibration["isolation_forest"])
        both = weights["xgboost"] * one + weights["isolation_forest"] * other
        return Scores(*(np.rint(x * SCALE) / SCALE for x in (both, one, other)))


def _refused(digest: str, why: str) -> BundleRefused:
    return BundleRefused(
        f"Model bundle {digest[:12]} was refused: {why}.", "The serving model stays; train and sign again."
    )


def _file_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, digest: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _refused(digest, f"{path.name} is missing in {path.parent}") from None


def _signature(key_id: str, signature: bytes) -> bytes:
    return orjson.dumps({"key_id": key_id, "signature": base64.b64encode(signature).decode()})


def write(store: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any], author: Signer) -> str:
    """Put a bundle into the store; its digest. Writing the same bundle again changes nothing."""
    described = {
        **manifest,
        "format": FORMAT,
        "files": {name: _file_digest(raw) for name, raw in sorted(files.items())},
    }
    raw = orjson.dumps(described, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    digest = _file_digest(raw)
    folder = store / digest
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_private(folder / name, content)
    write_private(folder / SIGNATURE, _signature(author.key_id, author.sign(raw)))
    write_private(folder / MANIFEST, raw)
    return digest


def load(store: Path, digest: str, trust: Trust) -> Model:
    """The model of a digest, every byte verified first, then tested on its own vectors; BundleRefused says why not."""
    folder = store / digest
    raw = _read(folder / MANIFEST, digest)
    if _file_digest(raw) != digest:
        raise _refused(digest, "its manifest was altered")
    written = _read(folder / SIGNATURE, digest)
    try:
        signed = orjson.loads(written)
        key_id, signature = str(signed["key_id"]), base64.b64decode(signed["signature"], validate=True)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise _refused(digest, "its signature cannot be read") from None
    # Only one form of a signature is ours: base64 has bits that decode to nothing.
    if written != _signature(key_id, signature):
        raise _refused(digest, "its signature was altered")
    if not trust.verifies(key_id, "author", raw, signature):
        raise _refused(digest, f"the signature of {key_id} does not verify")
    manifest = orjson.loads(raw)
    contents = {name: _read(folder / name, digest) for name in manifest["files"]}
    for name, content in contents.items():
        if _file_digest(content) != manifest["files"][name]:
            raise _refused(digest, f"{name} was altered")
    if manifest["format"] != FORMAT:
        raise _refused(digest, f"its format {manifest['format']} is unknown")
    if manifest["feature_set"] != feature_set_hash():
        raise _refused(digest, "it was trained on another feature set")
    return _tested(digest, manifest, contents[XGBOOST], folder / ISOLATION)


def _tested(digest: str, manifest: Mapping[str, Any], xgboost: bytes, isolation: Path) -> Model:
    forest, base = of_xgboost(orjson.loads(xgboost))
    try:
        arrays = snapshot.read(isolation).arrays
    except SnapshotRefused as error:
        raise _refused(digest, error.what) from None
    model = Model(digest, manifest, forest, base, Forest.of(snapshot.part(arrays, "forest")), arrays["medians"])
    test = manifest["self_test"]
    vectors = np.array([[np.nan if x is None else x for x in row] for row in test["vectors"]], np.float32)
    if vectors.shape[1:] != (len(NAMES),):
        raise _refused(digest, "its self-test does not fit the feature set")
    wrong = np.abs(model.scores(vectors).ensemble - np.array(test["scores"])) > SELF_TEST_TOLERANCE
    if wrong.any():
        raise _refused(digest, "its self-test gave other scores than at training")
    return model
