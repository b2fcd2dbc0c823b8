"""A neural network of a bundle: an ONNX graph of few known operators, run by ONNX Runtime in doubles on one thread.

A payment has the same bits alone, in a batch and in a replay: BLOCK payments go through the graph together, whoever
comes, for its input has that one shape. Doubles keep another processor's order of sums far below the sixth digit that
a decision records.

`onnx` and `onnxruntime` (extra `onnx`) are imported where such a bundle is loaded, and nowhere before.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from decisions.forests import Doubles, Matrix
from features.catalogue import NAMES
from lakehouse.errors import Terminal

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT, MEDIANS = "vectors", "network/margin", "network/medians"
BLOCK = 8
"""Payments in one run: one alone costs as much as they do, and many cost an eighth of the calls."""
OPERATORS = frozenset(
    [
        *("Abs", "Add", "Cast", "Clip", "Concat", "Gather", "IsNaN", "Log", "MatMul", "Min", "Mul", "Relu", "Sign"),
        *("Squeeze", "Sub", "Where"),
    ]
)
"""Each computes its output from its inputs alone: no file, no state, no random number, no other graph."""
WALKS, SEED = 2, 0
"""Orders, and what draws them, in which a payment's features are asked what they add."""


class NetworkRefused(Terminal):
    """A graph is not one of ours, or cannot be run here."""


def needed(what: str = "A neural model") -> None:
    """NetworkRefused where the packages that this needs are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise NetworkRefused(
            f"{what} needs onnx and onnxruntime, and here is no {error.name}.",
            "Install the extra: pip install 'fraudlake[onnx]'.",
        ) from None


@dataclass(frozen=True)
class Network:
    """The network of a bundle of kind `neural`."""

    raw: bytes
    medians: Matrix
    """Of the features, for what is missing."""
    session: Any = field(repr=False)

    @staticmethod
    def of(raw: bytes) -> "Network":
        """From the bytes of a graph that were verified before; NetworkRefused."""
        needed()
        import onnxruntime

        medians = _medians(raw)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        try:
            session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise NetworkRefused(f"ONNX Runtime does not take its network ({type(error).__name__}).") from None
        return Network(raw, medians, session)

    def margins(self, X: Matrix) -> Doubles:
        """Log odds of vectors (n, features)."""
        n = len(X)
        whole = np.zeros((-(-n // BLOCK) * BLOCK, X.shape[1]), np.float32)
        whole[:n] = X
        blocks = [self.session.run([OUTPUT], {INPUT: whole[at : at + BLOCK]})[0] for at in range(0, len(whole), BLOCK)]
        found: Doubles = np.concatenate(blocks)[:n] if blocks else np.zeros(0)
        return found

    @cached_property
    def expected(self) -> float:
        """The margin of a payment that has the median of every feature."""
        return float(self.margins(self.medians[None, :])[0])

    def contributions(self, X: Matrix) -> Doubles:
        """(n, features): an estimate of Shapley values; a row's sum is its margin less `expected`.

        On a walk from the medians to the payment its features take their values one by one, and each is given what it
        moves; the mean over WALKS orders, the same for every payment, and their reverses (Castro, Gomez and Tejada
        2009; Mitchell, Cooper, Frank and Holmes 2022).
        """
        return np.stack([self._walked(x) for x in X]) if len(X) else np.zeros(X.shape)

    def _walked(self, x: Matrix) -> Doubles:
        found, width = np.zeros(len(x)), len(x)
        for order in _orders(width):
            taken = np.zeros((width + 1, width), np.bool_)
            taken[:, order] = np.tri(width + 1, width, -1, np.bool_)
            found[order] += np.diff(self.margins(np.where(taken, x, self.medians)))
        return found / (2 * WALKS)


def _orders(width: int) -> "list[np.ndarray[Any, np.dtype[np.int64]]]":
    random = np.random.default_rng(SEED)
    orders = [random.permutation(width) for _ in range(WALKS)]
    return [*orders, *(order[::-1] for order in orders)]


def _medians(raw: bytes) -> Matrix:
    """The medians that a graph of ours holds; NetworkRefused where it is another kind of graph."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError:
        raise NetworkRefused("Its network is not an ONNX graph.") from None
    graph = model.graph
    if model.functions:
        raise NetworkRefused("Its network has functions of its own.")
    odd = sorted({node.domain + node.op_type for node in graph.node if not _known(node)})
    if odd:
        raise NetworkRefused(f"Its network has operators that are not served: {', '.join(odd)}.")
    constants = {one.name: one for one in graph.initializer}
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in graph.initializer) or graph.sparse_initializer:
        raise NetworkRefused("Its network has weights outside of its file.")
    shape = [(one.name, [d.dim_value for d in one.type.tensor_type.shape.dim]) for one in graph.input]
    if shape != [(INPUT, [BLOCK, len(NAMES)])] or [one.name for one in graph.output] != [OUTPUT]:
        raise NetworkRefused(f"Its network takes {shape}, expected is {INPUT} of {BLOCK} x {len(NAMES)}.")
    if MEDIANS not in constants:
        raise NetworkRefused("Its network has no medians.")
    medians: Matrix = numpy_helper.to_array(constants[MEDIANS]).astype(np.float32).reshape(len(NAMES))
    return medians


def _known(node: "onnx.NodeProto") -> bool:
    """Of the closed set, and without a graph inside."""
    inside = any(one.HasField("g") or one.graphs for one in node.attribute)
    return node.domain == "" and node.op_type in OPERATORS and not inside
