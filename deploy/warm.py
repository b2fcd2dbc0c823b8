"""Compile every numba kernel once, so that no first use waits for it (called by deploy/setup.sh)."""

import numpy as np

from lakehouse.registry import registry
from lakehouse.texts import Texts


def main() -> None:
    """Call each compiled function with the types that it is used with."""
    for schema in registry().schemas:
        nothing = np.zeros(0, np.int64)
        decoded = schema.codec.decode(np.zeros(0, np.uint8), nothing, nothing)
        schema.codec.encode(decoded.batch, schema.prefix)
    Texts.of(["a"]).to_arrow()
    Texts.of(["a"]).hash64()


if __name__ == "__main__":
    main()
