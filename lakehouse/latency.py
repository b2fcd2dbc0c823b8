"""What a process that answers in milliseconds needs of its interpreter."""

import gc
import sys

SWITCH_S = 0.0005
"""A thread that waits for the interpreter gets it after so long; the default of 5 ms is a whole answer's time."""


def prepare_for_latency() -> None:
    """Hand the interpreter over sooner, and keep what is loaded by now out of every later garbage collection.

    A full collection walks through every module of this product, and no answer is made meanwhile.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
