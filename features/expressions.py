"""Features as small programs over statistics: what turns counts and sums into ratios, in one place, in float64."""

import math
from enum import IntEnum

import numpy as np

from lakehouse.compiled import compiled


class Operation(IntEnum):
    """How a feature follows from its inputs a, b, c; unknown inputs give an unknown result unless stated."""

    VALUE = 0
    """a"""
    RATIO = 1
    """a / b; unknown where b is zero"""
    ZSCORE = 2
    """(a - b) / c; unknown where c is zero"""
    SURPLUS = 3
    """(a + 1) / (b + 1): a ratio of counts that is defined for nobody too"""


@compiled
def evaluate(program, payment, statistics, out):
    """Write each feature of a program: operands below len(payment) are the payment's own, the others statistics."""
    own = len(payment)
    for f in range(program.shape[0]):
        operation = program[f, 0]
        i, j, k = program[f, 1], program[f, 2], program[f, 3]
        a = payment[i] if i < own else statistics[i - own]
        value = a
        if operation == 1:
            b = payment[j] if j < own else statistics[j - own]
            value = a / b if b != 0.0 else math.nan
        elif operation == 2:
            b = payment[j] if j < own else statistics[j - own]
            c = payment[k] if k < own else statistics[k - own]
            value = (a - b) / c if c != 0.0 else math.nan
        elif operation == 3:
            b = payment[j] if j < own else statistics[j - own]
            value = (a + 1.0) / (b + 1.0)
        out[program[f, 4]] = np.float32(value)
