"""The engine: records of the log in, decisions out; a pure function of the log, its state and its keys.

Per batch: decode, admit, tokens, features, models, outcome, body. No clock, no network: `job.py` reads and writes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from decisions.bundle import Model, Scores
from decisions.identities import Identities, addresses_differ, identified
from decisions.intake import Message, is_control, taken_in
from decisions.judged import Judged
from decisions.outcome import FULL, OUTCOMES, REJECTED, RISKS, bands
from decisions.record import Body, decision_ids, no_lists, repeated
from decisions.stages import Stages
from expectations.admission import ACCEPTED
from features.catalogue import feature_set_hash
from features.inputs import Admitted, Placed, authorisations, labels, payments
from features.records import empty
from features.state import Matrix
from features.store import Place, State
from features.waiting import joined
from lakehouse.codec import Column, Strings
from lakehouse.crypto import Digests, Tokens
from lakehouse.errors import Terminal
from lakehouse.keys import Keyring
from lakehouse.texts import Flags, Ints, Texts

ModelLoader = Callable[[str], Model]
_NOBODY = Placed(empty(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


class Engine:
    """One deterministic writer over one partition of topic `events`."""

    def __init__(self, state: State, keyring: Keyring, load_model: ModelLoader) -> None:
        self.state = state
        self._digests = Digests(keyring)
        self._tokens = Tokens(keyring)
        self._load_model = load_model
        self._model: Model | None = None
        self.stages = Stages()
        self._activate()

    def _activate(self) -> None:
        """Load what is in force; a bundle that is refused stops the engine."""
        digest = self.state.admission.in_force.model_digest
        if digest is not None and (self._model is None or self._model.digest != digest):
            self._model = self._load_model(digest)

    def decide(self, messages: Sequence[Message]) -> list[Body]:
        """Bodies of the decisions over the next records of the log; the state moves behind them.

        A control event is taken alone, so that everything in one body list was decided under the same rules.
        """
        bodies = []
        begin = 0
        for at in [*(i for i, m in enumerate(messages) if is_control(m)), len(messages)]:
            if begin < at:
                bodies.append(self._segment(messages[begin:at]))
            if at < len(messages):
                self.state.admission.admit(taken_in(messages[at : at + 1], self._digests).candidates)
                self._activate()
            begin = at + 1
        if messages:
            place = self.state.place
            self.state.place = Place(place.topic_id, place.partition, messages[-1].offset + 1)
        return [body for body in bodies if len(body.offset)]

    def _segment(self, messages: Sequence[Message]) -> Body:
        self.stages.begin()
        intake = taken_in(messages, self._digests)
        self.stages.done("decode")
        verdicts = self.state.admission.admit(intake.candidates)
        judged = {part.kind: Judged(part, intake, verdicts) for part in intake.parts}
        self.stages.done("admission")
        # An authorisation names the people of its payment.
        known: dict[str, dict[bytes, bytes]] = {}
        people = {kind: identified(judged[kind].batch, self._tokens, known) for kind in _WITH_PEOPLE if kind in judged}
        self.stages.done("tokens")
        placed = {kind: _PLACED[kind](judged[kind], people[kind]) for kind in people}
        events = joined([placed[kind] for kind in ("payment", "authorisation") if kind in placed])
        vectors = self.state.flow.take(events, placed.get("label", _NOBODY))
        self.stages.done("features")
        if "payment" not in judged:
            return _NO_BODIES
        body = self._bodies(judged["payment"], people["payment"], vectors)
        self.stages.done("body")
        return body

    def _scored(self, vectors: Matrix, offset: Ints) -> tuple[Scores, Ints]:
        if self._model is None:
            raise Terminal(
                f"The payment at offset {int(offset[0])} cannot be decided: no model is in force there.",
                "Activate one (python -m decisions.control activate --scope model), then bootstrap later than that.",
            )
        self.stages.done("body")
        scores = self._model.scores(vectors)
        self.stages.done("models")
        return scores, bands(scores.ensemble, self._model.manifest["cuts"])

    def _bodies(self, judged: Judged, people: Identities, vectors: Matrix) -> Body:
        """One body for every accepted payment and every one that admission rejected."""
        decided = judged.decided
        n = len(decided)
        accepted = judged.status[decided] == ACCEPTED
        place, in_force = self.state.place, self.state.admission.in_force
        batch, offset, decoded = judged.batch.take(decided), judged.offset[decided], judged.part.decoded
        columns: dict[str, Column] = {
            "topic_id": repeated(place.topic_id, n),
            "partition": np.full(n, place.partition, np.int64),
            "offset": offset,
            "decision_id": Texts.of(decision_ids(place.topic_id, place.partition, offset)),
            "transaction_id": batch.columns["transaction_id"],
            "event_time": batch.columns["event_time"],
            "received_at": batch.columns["received_at"],
            "engine_clock": judged.clock_ms[decided],
            "rejected_by": no_lists(n) if accepted.all() else Strings.of(judged.reasons()),
            "merchant_id": batch.columns["merchant_id"],
            "amount_base_minor": judged.amount[decided],
            "feature_set": repeated(feature_set_hash(), n),
            "model_digest": repeated(in_force.model_digest or "", n),
            "control_digest": repeated(in_force.digest, n),
            "rung": repeated(FULL, n),
            "payload_digest": Texts.of([decoded.payload[row] for row in decided.tolist()]),
            "content_digest": Texts.fixed(decoded.content[decided].astype(">i8").view(np.uint8)),
            **self._verdict(accepted, offset, vectors),
        }
        valid: dict[str, Flags] = dict.fromkeys(_ONLY_ACCEPTED, accepted)
        for kind in ("card", "customer", "device", "ip"):
            columns[f"{kind}_token"] = people.texts(kind, self._tokens).take(decided)
            valid[f"{kind}_token"] = people.has[kind][decided]
        return Body(offset, batch.texts("transaction_id").to_list(), columns, valid)

    def _verdict(self, accepted: Flags, offset: Ints, vectors: Matrix) -> dict[str, Column]:
        """Outcome, risk, scores and vector; `rejected` and nothing else where not accepted."""
        n = len(accepted)
        at = np.flatnonzero(accepted)
        outcome, risk, vector = [REJECTED] * n, [""] * n, [b""] * n
        score = np.zeros((3, n))
        if len(at):
            scores, band = self._scored(vectors, offset[at])
            score[:, at] = scores.ensemble, scores.xgboost, scores.isolation_forest
            raw, width = vectors.tobytes(), vectors.shape[1] * 4
            for i, (row, which) in enumerate(zip(at.tolist(), band.tolist(), strict=True)):
                outcome[row], risk[row] = OUTCOMES[which], RISKS[which]
                vector[row] = raw[i * width : (i + 1) * width]
        return {
            "outcome": Texts.of(outcome),
            "risk": Texts.of(risk),
            "vector": Texts.of(vector),
            **dict(zip(("score", "score_xgboost", "score_isolation_forest"), score, strict=True)),
        }


def _payments(judged: Judged, people: Identities) -> Placed:
    at = judged.accepted
    admitted = Admitted(
        judged.offset[at], judged.clock_ms[at], judged.amount[at], judged.category_risk[at], judged.country_risk[at]
    )
    batch = judged.batch.take(at)
    return payments(batch, people.whom(at), admitted, addresses_differ(batch))


def _authorisations(judged: Judged, people: Identities) -> Placed:
    at = judged.accepted
    return authorisations(judged.batch.take(at), people.whom(at), judged.offset[at], judged.clock_ms[at])


def _labels(judged: Judged, people: Identities) -> Placed:
    at = judged.accepted
    return labels(judged.batch.take(at), people.whom(at), judged.amount[at], judged.offset[at], judged.clock_ms[at])


_PLACED = {"payment": _payments, "authorisation": _authorisations, "label": _labels}
_WITH_PEOPLE = tuple(_PLACED)
_ONLY_ACCEPTED = (
    *("amount_base_minor", "feature_set", "vector", "model_digest", "risk"),
    *("score", "score_xgboost", "score_isolation_forest"),
)
"""Fields of a decision that a rejected payment does not have."""
_NO_BODIES = Body(np.zeros(0, np.int64), [], {}, {})
