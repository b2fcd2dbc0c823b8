"""A model as a content-addressed, signed bundle of plain bytes: verified before anything of it is parsed.

    <store>/<digest>/manifest.json       what the model is, and the SHA-256 of every other file
    <store>/<digest>/manifest.signature  key id and Ed25519 signature of the author over manifest.json
    <store>/<digest>/xgboost.json        XGBoost's own JSON, or
    <store>/<digest>/network.onnx        a neural network (the manifest says which kind it is)
    <store>/<digest>/isolation.arrays    the isolation forest as flat arrays (the format of features/snapshot.py)

The digest is the SHA-256 of manifest.json, so a decision that names it names every byte. No pickle anywhere.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

from decisions.boosted import Boosted
from decisions.contributions import Explainer, covers_of_isolation, explainer
from decisions.forests import Doubles, Forest, Matrix, path_lengths, sigmoids
from decisions.network import Network, NetworkRefused
from features import snapshot
from features.catalogue import NAMES, feature_set_hash
from lakehouse.errors import BundleRefused, SnapshotRefused
from lakehouse.keys import write_private
from lakehouse.signing import Signer, Trust

MANIFEST, SIGNATURE, XGBOOST, ISOLATION = "manifest.json", "manifest.signature", "xgboost.json", "isolation.arrays"
NETWORK = "network.onnx"
FORMAT = 3
CHAMPION = "champion"
DIGEST_TAG = "bundle_digest"
"""The registry's alias of the serving model, and the tag by which a version names its bundle."""
SELF_TEST_TOLERANCE = 1e-9
SCALE = 1_000_000
"""Scores are rounded to millionths, in the record and before they are compared with a cut."""


class Supervised(Protocol):
    """A model that was shown frauds; the same bits for a row alone and in a batch."""

    @property
    def expected(self) -> float:
        """The log odds that its contributions start from."""

    def margins(self, X: Matrix) -> Doubles:
        """Log odds of vectors (n, features)."""

    def contributions(self, X: Matrix) -> Doubles:
        """(n, features): what each feature added; a row's sum is its margin less `expected`."""


class Kind(NamedTuple):
    """A kind of supervised model: its file, and what reads it."""

    file: str
    of: Callable[[bytes], Supervised]


XGBOOST_KIND, NEURAL_KIND = "xgboost", "neural"
KINDS: Mapping[str, Kind] = {XGBOOST_KIND: Kind(XGBOOST, Boosted.of), NEURAL_KIND: Kind(NETWORK, Network.of)}


def kind_of(manifest: Mapping[str, Any]) -> str:
    """The kind of a manifest's supervised model; the first bundles do not say that they are XGBoost's."""
    return str(manifest.get("kind", XGBOOST_KIND))


@dataclass(frozen=True)
class Scores:
    """Calibrated scores in [0, 1], rounded to 1e-6; NaN where a model has none to give."""

    ensemble: Doubles
    supervised: Doubles
    """Of XGBoost or the network: `score_xgboost` of a decision."""
    isolation_forest: Doubles


@dataclass(frozen=True)
class Model:
    """A verified model, ready to score and to say why; without its anomaly model `lacks` says why that is."""

    digest: str
    manifest: Mapping[str, Any]
    supervised: Supervised
    isolation: Forest | None = None
    medians: Matrix = field(default_factory=lambda: np.empty(0, np.float32))
    why_length: Explainer | None = None
    """Of the isolation forest's path lengths."""
    lacks: str = ""

    @staticmethod
    def of(digest: str, manifest: Mapping[str, Any], raw: bytes) -> "Model":
        """The model of its supervised model's file, without an anomaly model."""
        return Model(digest, manifest, KINDS[kind_of(manifest)].of(raw))

    @property
    def kind(self) -> str:
        """Of its supervised model."""
        return kind_of(self.manifest)

    def with_anomaly(self, isolation: Forest, medians: Matrix) -> "Model":
        """The same with its isolation forest."""
        covers = covers_of_isolation(isolation, self.manifest["isolation_expected_path"])
        return replace(self, isolation=isolation, medians=medians, why_length=explainer(isolation, covers))

    def filled(self, X: Matrix) -> Matrix:
        """Vectors for the isolation forest, fitted on known values: what is missing takes the training median."""
        return np.where(np.isnan(X), self.medians, X)

    def scores(self, X: Matrix) -> Scores:
        """Scores of vectors (n, features); the same bits for a row alone and in a batch."""
        calibration, weights = self.manifest["calibration"], self.manifest["weights"]
        one = sigmoids(self.supervised.margins(X), *calibration[self.kind])
        if self.isolation is None:
            other = np.full(len(X), np.nan)
        else:
            length = path_lengths(self.isolation, self.filled(X))
            other = sigmoids(-length / self.manifest["isolation_expected_path"], *calibration["isolation_forest"])
        both = weights[self.kind] * one + weights["isolation_forest"] * other
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


def load(store: Path, digest: str, trust: Trust, whole: bool = True) -> Model:
    """The model of a digest, every byte verified first, then tested on its own vectors; BundleRefused says why not.

    With `whole` false, what is wrong with its anomaly model alone gives a model without one.
    """
    folder = store / digest
    manifest = _manifest(folder, digest, trust)
    contents, lacks = {}, ""
    for name, expected in manifest["files"].items():
        try:
            contents[name] = _verified(folder / name, digest, expected)
        except BundleRefused as error:
            if whole or name != ISOLATION:
                raise
            lacks = error.what
    try:
        model = Model.of(digest, manifest, contents[KINDS[kind_of(manifest)].file])
    except NetworkRefused as error:
        raise _refused(digest, error.what.rstrip(".")) from None
    model = _test(replace(model, lacks=lacks))
    if lacks:
        return model
    try:
        return _test(_with_isolation(model, contents.get(ISOLATION, b"")))
    except BundleRefused as error:
        if whole:
            raise
        return replace(model, lacks=error.what)


def _manifest(folder: Path, digest: str, trust: Trust) -> dict[str, Any]:
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
    manifest: dict[str, Any] = orjson.loads(raw)
    if manifest["format"] != FORMAT:
        raise _refused(digest, f"its format is {manifest['format']}, this release reads {FORMAT}")
    if manifest["feature_set"] != feature_set_hash():
        raise _refused(digest, "it was trained on another feature set")
    kind = kind_of(manifest)
    if kind not in KINDS or KINDS[kind].file not in manifest["files"]:
        raise _refused(digest, f"its model is of kind {kind}, this release reads {', '.join(KINDS)}")
    return manifest


def verified_files(store: Path, digest: str, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that a manifest lists, each as it was signed; BundleRefused names one that was altered."""
    return {name: _verified(store / digest / name, digest, expected) for name, expected in manifest["files"].items()}


def _verified(path: Path, digest: str, expected: str) -> bytes:
    content = _read(path, digest)
    if _file_digest(content) != expected:
        raise _refused(digest, f"{path.name} was altered")
    return content


def _with_isolation(model: Model, content: bytes) -> Model:
    # A copy of the bytes that were verified: what happens to the file later changes no score.
    raw = np.frombuffer(content, np.uint8).copy()
    try:
        arrays = snapshot.parsed(raw, Path(ISOLATION)).arrays
    except SnapshotRefused as error:
        raise _refused(model.digest, error.what) from None
    return model.with_anomaly(Forest.of(snapshot.part(arrays, "forest")), arrays["medians"])


def self_test_vectors(manifest: Mapping[str, Any]) -> Matrix:
    """The vectors that a bundle says its scores of."""
    rows = manifest["self_test"]["vectors"]
    return np.array([[np.nan if x is None else x for x in row] for row in rows], np.float32)


def _test(model: Model) -> Model:
    """The model, when it scores its own vectors as at training, and each alone as among the others."""
    test, vectors = model.manifest["self_test"], self_test_vectors(model.manifest)
    if vectors.shape[1:] != (len(NAMES),):
        raise _refused(model.digest, "its self-test does not fit the feature set")
    scores = model.scores(vectors)
    found, expected = (
        (scores.supervised, test[model.kind]) if model.isolation is None else (scores.ensemble, test["scores"])
    )
    if not (np.abs(found - np.array(expected)) <= SELF_TEST_TOLERANCE).all():
        raise _refused(model.digest, "its self-test gave other scores than at training")
    raw = model.supervised.margins(vectors)
    if any(model.supervised.margins(vectors[at : at + 1])[0] != one for at, one in enumerate(raw)):
        raise _refused(model.digest, "its self-test gave a vector other bits alone than among others")
    return model
