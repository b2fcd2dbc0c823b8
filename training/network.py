"""A small neural network as the supervised model of a bundle: fitted, written as ONNX, fitted again.

A multi-layer perceptron on standardised logarithms (`baselines.Prepared`). Frauds are rare: it is fitted on every fraud
and a seeded sample of genuine payments without weights, and the calibration on whole validation days makes chances of
what comes out. Validation days stop it, too. One thread: another number of them would give other bits.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from decisions import network
from decisions.bundle import NEURAL_KIND
from decisions.network import NetworkRefused
from training.baselines import Prepared
from training.data import Matrix
from training.fit import Doubles, Flags, Progress, sampled

LIMIT = 8.0
"""Standard deviations: what is further out says no more than this."""
MOST_EPOCHS, PATIENCE = 60, 8
BATCH = 256
TOLERANCE = 1e-5
CHECKED_ROWS = 1_000
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"hidden": (64, 32), "alpha": 1e-3, "learning_rate": 1e-3},
    {"hidden": (64, 32), "alpha": 1e-1, "learning_rate": 1e-3},
    {"hidden": (32,), "alpha": 1e-2, "learning_rate": 1e-3},
    {"hidden": (128, 32), "alpha": 1e-2, "learning_rate": 3e-4},
)
"""In the order of trying: width of the hidden layers, weight decay, Adam's step."""


@dataclass(frozen=True)
class Network:
    """Fitted weights, with what standardises their input."""

    prepared: Prepared
    layers: tuple[tuple[Doubles, Doubles], ...]
    """(weights, biases), the last one to one log odds."""
    setting: Mapping[str, Any]
    epochs: int
    raw: bytes
    """The ONNX graph."""
    kind = NEURAL_KIND

    @staticmethod
    def of(net: MLPClassifier, prepared: Prepared, setting: Mapping[str, Any], epochs: int, X: Matrix) -> "Network":
        """Of a fitted perceptron; NetworkRefused where its graph says something else of vectors."""
        from training.onnx_graph import network_graph

        layers = tuple(zip(net.coefs_, net.intercepts_, strict=True))
        raw = network_graph(prepared, layers, LIMIT)
        found = Network(prepared, layers, setting, epochs, raw)
        X = X[:CHECKED_ROWS]
        chance = net.predict_proba(limited(prepared, X))[:, 1]
        worst = float(np.abs(1 / (1 + np.exp(-found.margins(X))) - chance).max())
        if not worst <= TOLERANCE:
            raise NetworkRefused(
                f"The graph of a network differs from what was fitted by {worst:g}; expected at most {TOLERANCE:g}.",
                "Look at the versions of onnx and onnxruntime (pyproject.toml, extra `onnx`).",
            )
        return found

    def content(self) -> bytes:
        """The ONNX graph."""
        return self.raw

    def margins(self, X: Matrix) -> Doubles:
        """Log odds, as the engine computes them."""
        return network.Network.of(self.raw).margins(X)

    def described(self) -> dict[str, Any]:
        """What fits it again."""
        return {"epochs": self.epochs, **self.setting, "hidden": list(self.setting["hidden"])}

    def again(self, X: Matrix, fraud: Flags, rows: npt.NDArray[Any], seed: int) -> "Network":
        """The same settings and number of epochs on these rows."""
        return refitted(X, fraud, rows, self.setting, self.epochs, seed)

    def importance(self, X: Matrix) -> Doubles:
        """(features,): share of the mean absolute contributions to these payments' log odds."""
        moved: Doubles = np.abs(network.Network.of(self.raw).contributions(X)).mean(axis=0)
        whole = moved.sum()
        shares: Doubles = moved / whole if whole else moved
        return shares


def limited(prepared: Prepared, X: Matrix) -> Doubles:
    """The network's input: standardised, nothing beyond LIMIT; a feature that never varied is nothing."""
    return np.clip(prepared(X), -LIMIT, LIMIT)


def _new(setting: Mapping[str, Any], seed: int) -> MLPClassifier:
    # A generator, not a number: with a number every epoch would come in the same order.
    return MLPClassifier(
        hidden_layer_sizes=tuple(setting["hidden"]),
        alpha=setting["alpha"],
        learning_rate_init=setting["learning_rate"],
        batch_size=BATCH,
        random_state=np.random.RandomState(seed),
    )


def _epoch(net: MLPClassifier, matrix: Doubles, fraud: Flags) -> None:
    net.partial_fit(matrix, fraud, classes=[False, True])


def refitted(
    X: Matrix, fraud: Flags, rows: npt.NDArray[Any], setting: Mapping[str, Any], epochs: int, seed: int
) -> Network:
    """A network of these settings after so many epochs over rows."""
    chosen, _ = sampled(fraud, rows, seed)
    prepared, net = Prepared(X[chosen]), _new(setting, seed)
    matrix = limited(prepared, X[chosen])
    with threadpool_limits(1):
        for _ in range(epochs):
            _epoch(net, matrix, fraud[chosen])
    return Network.of(net, prepared, setting, epochs, X[chosen])


def searched(
    X: Matrix,
    fraud: Flags,
    fit: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    seed: int,
    trials: int,
    say: Progress,
) -> Network:
    """The best of the trials by average precision on validation days, each stopped where it was best there."""
    network.needed()
    rows, _ = sampled(fraud, fit, seed)
    prepared = Prepared(X[rows])
    matrix, held_out = limited(prepared, X[rows]), limited(prepared, X[validation])
    best: tuple[float, int, MLPClassifier, Mapping[str, Any]] | None = None
    settings = SETTINGS[:trials]
    with threadpool_limits(1):
        for number, setting in enumerate(settings, start=1):
            net, top, top_epoch = _new(setting, seed), -1.0, 0
            for epoch in range(1, MOST_EPOCHS + 1):
                _epoch(net, matrix, fraud[rows])
                score = float(average_precision_score(fraud[validation], net.predict_proba(held_out)[:, 1]))
                if score > top:
                    top, top_epoch = score, epoch
                    if best is None or score > best[0]:
                        best = (score, epoch, copy.deepcopy(net), setting)
                elif epoch - top_epoch >= PATIENCE:
                    break
            say(f"network {number}/{len(settings)}: average precision {top:.3f} on validation days, {top_epoch} epochs")
    assert best is not None
    return Network.of(best[2], prepared, best[3], best[1], X[rows])
