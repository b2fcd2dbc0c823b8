"""Whose record it is: the tokens and 64-bit keys of the people and things that a decoded record names."""

from dataclasses import dataclass

import numpy as np

from features.inputs import Doubles, Whom, nonzero
from lakehouse.codec import Batch
from lakehouse.crypto import Tokens, canonical, entity_keys
from lakehouse.texts import Flags, Ints, Texts

FIELDS = {
    "card": "card_number",
    "customer": "customer_id",
    "device": "device_id",
    "ip": "ip_address",
    "email": "customer_email",
}
"""Kinds in the order of Whom, and the fields that name them; only payments carry an e-mail."""


@dataclass(frozen=True)
class Identities:
    """Digests by kind, of the rows that have one; `has` says which."""

    digests: dict[str, list[bytes]]
    has: dict[str, Flags]
    blank_customer: int
    """The 64-bit key of an id that names nobody."""

    def whom(self, rows: Ints) -> Whom:
        """The 64-bit keys of these rows, zero for nobody."""
        return Whom(*(self._keys(kind)[rows] for kind in FIELDS))

    def _keys(self, kind: str) -> Ints:
        has = self.has[kind]
        out = np.zeros(len(has), np.int64)
        if has.any():
            out[has] = entity_keys(self.digests[kind])
        if kind == "customer":
            has = has & (out != self.blank_customer)
        return nonzero(out, has)

    def texts(self, kind: str, tokens: Tokens) -> Texts:
        """The tokens as text, empty for nobody."""
        found, has = tokens.encoded(self.digests[kind]), self.has[kind]
        start, length = np.zeros(len(has), np.int64), np.zeros(len(has), np.int64)
        start[has], length[has] = found.start, found.length
        return Texts(found.buffer, start, length)


def identified(batch: Batch, tokens: Tokens, known: dict[str, dict[bytes, bytes]]) -> Identities:
    """The identities of decoded records; `known` are those made for others of the same batch, by kind."""
    digests: dict[str, list[bytes]] = {}
    has: dict[str, Flags] = {}
    for kind, field in FIELDS.items():
        if field not in batch.columns:
            digests[kind], has[kind] = [], np.zeros(batch.rows, np.bool_)
            continue
        has[kind] = batch.has(field)
        values = batch.texts(field).take(np.flatnonzero(has[kind]))
        digests[kind] = tokens.digests(kind, values.to_list(), known.setdefault(kind, {}))
    return Identities(digests, has, tokens.blank_customer)


def addresses_differ(batch: Batch) -> Doubles:
    """1 where shipped to another address than billed, 0 where to the same, unknown where one is not given."""
    out = np.full(batch.rows, np.nan)
    both = np.flatnonzero(batch.has("billing_address") & batch.has("shipping_address"))
    billing = batch.texts("billing_address").take(both).to_list()
    shipping = batch.texts("shipping_address").take(both).to_list()
    for row, one, other in zip(both.tolist(), billing, shipping, strict=True):
        out[row] = float(one != other and canonical("address", one) != canonical("address", other))
    return out
