"""The kernels of this room, called once on next to nothing."""

import numpy as np

from expectations.admission import Admission, Candidates
from expectations.control import ControlEvent
from expectations.decoded import Decoded, broken_rules, decode
from expectations.reference import Reference, converted, short_codes
from expectations.rules.parsing import parsed
from expectations.rules.programs import program
from lakehouse.crypto import Digests
from lakehouse.keys import Keyring
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.signing import Trust
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS

_REFERENCE = '{"base_currency":"EUR","rates_micro":{"EUR":1000000},"category_risk":{},"country_risk":{}}'


def decoded(kind: str) -> Decoded:
    """One record of a kind that ends after its prefix: no value is good, and every kernel ran over it."""
    schema = registry().latest(kind)
    start, end = np.zeros(1, np.int64), np.full(1, PREFIX_BYTES)
    return decode(schema, schema.prefix, start, end, start, Digests(Keyring({1: bytes(32)})))


def warm() -> None:
    """Compile or load them."""
    for kind in EVENT_KINDS:
        broken_rules(decoded(kind))
    short_codes(Texts.of(["EUR"]))
    program([parsed("TRUE")]).fired(np.empty((0, 1)), [], 1)
    converted(np.ones(1, np.int64), np.ones(1, np.int64))
    admission = Admission(np.zeros(len(EVENT_KINDS), np.int64), Trust({}, {}))
    admission.in_force.reference = Reference.of(1, _REFERENCE)
    one, pair = np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    admission.remember(one, pair, pair, one, one)
    admission.admit(Candidates(one, one, one, np.ones(1, np.bool_), pair, pair, one, one, one, one, {}))
    admission.seen = admission.seen[:2]
    event = ControlEvent("", "reference", 1, "", "{}", "", "", b"", b"")
    admission.admit(Candidates(one, one, one, np.ones(1, np.bool_), pair + 1, pair, one, one, one, one, {0: event}))
