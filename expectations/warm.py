"""The kernels of this room, called once on next to nothing."""

import numpy as np

from expectations import rows
from expectations.admission import Admission, Candidates
from expectations.reference import Reference, converted, short_codes
from lakehouse.signing import Trust
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS

_REFERENCE = '{"base_currency":"EUR","rates_micro":{"EUR":1000000},"category_risk":{},"country_risk":{}}'


def warm() -> None:
    """Compile or load them."""
    rows.warm()
    short_codes(Texts.of(["EUR"]))
    converted(np.ones(1, np.int64), np.ones(1, np.int64))
    admission = Admission(np.zeros(len(EVENT_KINDS), np.int64), Trust({}, {}))
    admission.in_force.reference = Reference.of(1, _REFERENCE)
    one, pair = np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    admission.remember(one, pair, pair, one, one)
    admission.admit(Candidates(one, one, one, np.ones(1, np.bool_), pair, pair, one, one, one, one, {}))
    admission.seen = admission.seen[:4]
    admission.admit(Candidates(one, one, one, np.ones(1, np.bool_), pair, pair, one, one, one, one, {}))
