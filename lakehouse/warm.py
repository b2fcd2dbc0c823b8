"""The kernels of this room, called once on nothing."""

import numpy as np

from lakehouse.registry import registry
from lakehouse.texts import Texts


def warm() -> None:
    """Compile or load them."""
    nothing = np.zeros(0, np.int64)
    for schema in registry().schemas:
        decoded = schema.codec.decode(np.zeros(0, np.uint8), nothing, nothing)
        schema.codec.encode(decoded.batch, schema.prefix)
    texts = Texts.of(["a"])
    texts.packed()
    texts.hash64()
