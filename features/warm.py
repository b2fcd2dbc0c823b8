"""The kernels of this room, called once on a payment, an authorisation and a label."""

import numpy as np

from expectations.warm import decoded
from features.flow import Flow
from features.inputs import Admitted, Placed, Whom, payments, token_keys
from features.records import AUTHORISED, FRAUD, LABELLED, PAID, empty
from features.sharding import shard_of, together
from features.state import Spec
from lakehouse.texts import Texts


def warm() -> None:
    """Compile or load them."""
    records = empty(2)
    records.what[:] = (PAID, AUTHORISED)
    records.who[:] = 1
    label = empty(1)
    label.what[:], label.flags[:] = LABELLED, FRAUD
    label.who[:] = label.label_id[:] = 1
    flow = Flow(Spec(7, 400, 1000))
    one = np.zeros(1, np.int64)
    flow.take(Placed(records, np.arange(2), np.zeros(2, np.int64)), Placed(label, one - 1, one))
    for state in flow.states.values():
        saved = state.saved()
        together([saved], [shard_of(saved["record"]["key"], 1) == 0])
        state.load(saved)
    batch, nothing, unknown = decoded("payment").batch, np.zeros(1, np.int64), np.zeros(1)
    nobody = Whom(*[nothing] * len(Whom._fields))
    payments(batch, nobody, Admitted(nothing, nothing, nothing, unknown, unknown), unknown)
    token_keys(Texts.of(["v1:AAAAAAAAAAAAAAAAAAAAAAAA"]), np.ones(1, np.bool_))
