"""The engine: records of the log in, decisions out; a pure function of the log, its state and its keys.

Per batch: decode, admit, tokens, features, models, outcome, body. No clock, no network: `job.py` reads and writes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from decisions.bundle import Model, Scores
from decisions.identities import Identities, addresses_differ, identified
from decisions.intake import Intake, Message, Part, is_control, taken_in
from decisions.outcome import FULL, OUTCOMES, REJECTED, RISKS, bands
from decisions.record import Body, decision_ids, no_lists, repeated
from expectations.admission import ACCEPTED, QUARANTINED, Verdicts
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
        intake = taken_in(messages, self._digests)
        verdicts = self.state.admission.admit(intake.candidates)
        known = {part.kind: (part, _Judged(part, intake, verdicts)) for part in intake.parts}
        paid = known.get("payment")
        identities = None if paid is None else identified(paid[0].decoded.batch, self._tokens)
        vectors = self.state.flow.take(
            joined([self._payments(paid, identities), self._authorisations(known.get("authorisation"))]),
            self._labels(known.get("label")),
        )
        if paid is None or identities is None:
            return _no_bodies()
        return self._bodies(*paid, identities, vectors)

    def _payments(self, paid: "tuple[Part, _Judged] | None", identities: Identities | None) -> Placed:
        if paid is None or identities is None:
            return _NOBODY
        part, judged = paid
        at = judged.accepted
        batch = part.decoded.batch
        whom = identities.whom(batch.rows)
        admitted = Admitted(
            judged.offset[at], judged.clock[at], judged.amount[at], judged.category_risk[at], judged.country_risk[at]
        )
        good = batch.take(at)
        return payments(good, type(whom)(*(keys[at] for keys in whom)), admitted, addresses_differ(good))

    def _authorisations(self, found: "tuple[Part, _Judged] | None") -> Placed:
        if found is None:
            return _NOBODY
        part, judged = found
        batch = part.decoded.batch.take(judged.accepted)
        whom = identified(batch, self._tokens).whom(batch.rows)
        return authorisations(batch, whom, judged.offset[judged.accepted], judged.clock[judged.accepted])

    def _labels(self, found: "tuple[Part, _Judged] | None") -> Placed:
        if found is None:
            return _NOBODY
        part, judged = found
        at = judged.accepted
        batch = part.decoded.batch.take(at)
        whom = identified(batch, self._tokens).whom(batch.rows)
        return labels(batch, whom, judged.amount[at], judged.offset[at], judged.clock[at])

    def _scored(self, vectors: Matrix, offset: Ints) -> tuple[Scores, Ints]:
        if self._model is None:
            raise Terminal(
                f"The payment at offset {int(offset[0])} cannot be decided: no model is in force there.",
                "Activate one (python -m decisions.control activate --scope model), then bootstrap later than that.",
            )
        scores = self._model.scores(vectors)
        return scores, bands(scores.ensemble, self._model.manifest["cuts"])

    def _bodies(self, part: Part, judged: "_Judged", identities: Identities, vectors: Matrix) -> Body:
        """One body for every accepted payment and every one that admission rejected."""
        decided = judged.decided
        n = len(decided)
        accepted = judged.status[decided] == ACCEPTED
        place, in_force = self.state.place, self.state.admission.in_force
        batch = part.decoded.batch.take(decided)
        columns: dict[str, Column] = {
            name: batch.columns[name] for name in ("transaction_id", "event_time", "received_at", "merchant_id")
        }
        valid: dict[str, Flags] = {}
        for kind in ("card", "customer", "device", "ip"):
            columns[f"{kind}_token"] = identities.texts(kind, self._tokens).take(decided)
            valid[f"{kind}_token"] = identities.has[kind][decided]
        offset = judged.offset[decided]
        columns["topic_id"] = repeated(place.topic_id, n)
        columns["partition"] = np.full(n, place.partition, np.int64)
        columns["offset"] = offset
        columns["decision_id"] = Texts.of(decision_ids(place.topic_id, place.partition, offset))
        columns["engine_clock"] = judged.clock[decided]
        columns["amount_base_minor"] = judged.amount[decided]
        columns["control_digest"] = repeated(in_force.digest, n)
        columns["rung"] = repeated(FULL, n)
        columns["payload_digest"] = Texts.of([part.decoded.payload[row] for row in decided.tolist()])
        columns["content_digest"] = Texts.fixed(part.decoded.content[decided].astype(">i8").view(np.uint8))
        columns["feature_set"] = repeated(feature_set_hash(), n)
        columns["model_digest"] = repeated(in_force.model_digest or "", n)
        self._verdict(columns, accepted, judged, offset, vectors)
        for name in ("amount_base_minor", "feature_set", "vector", "model_digest", "risk"):
            valid[name] = accepted
        for name in ("score", "score_xgboost", "score_isolation_forest"):
            valid[name] = accepted
        return Body(offset, batch.texts("transaction_id").to_list(), columns, valid)

    def _verdict(
        self, columns: dict[str, Column], accepted: Flags, judged: "_Judged", offset: Ints, vectors: Matrix
    ) -> None:
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
        columns["outcome"], columns["risk"], columns["vector"] = (Texts.of(x) for x in (outcome, risk, vector))
        for name, values in zip(("score", "score_xgboost", "score_isolation_forest"), score, strict=True):
            columns[name] = values
        columns["rejected_by"] = no_lists(n) if accepted.all() else Strings.of(judged.reasons())


class _Judged:
    """The verdicts over the records of one part, in its rows."""

    def __init__(self, part: Part, intake: Intake, verdicts: Verdicts) -> None:
        self.offset = intake.offset[part.rows]
        place = intake.place[part.rows]
        decodable = place >= 0
        at = np.maximum(place, 0)

        def column(values: Ints) -> Ints:
            return values[at] if len(values) else np.zeros(len(at), values.dtype)

        self.status = np.where(decodable, column(verdicts.status), -1)
        self.clock = column(verdicts.engine_clock)
        self.amount = column(verdicts.amount_base_minor)
        self.category_risk, self.country_risk = (
            verdicts.category_risk[at] if len(verdicts.category_risk) else np.zeros(len(at)),
            verdicts.country_risk[at] if len(verdicts.country_risk) else np.zeros(len(at)),
        )
        self.accepted = np.flatnonzero(self.status == ACCEPTED)
        self.decided = np.flatnonzero((self.status == ACCEPTED) | (self.status == QUARANTINED))
        self._broken, self._place, self._verdicts = part.broken, place, verdicts

    def reasons(self) -> list[list[str]]:
        """Per decided record, the names of the rules that refused it."""
        return [
            self._verdicts.reason(int(self._place[row]), self._broken[row]) if self.status[row] == QUARANTINED else []
            for row in self.decided.tolist()
        ]


def _no_bodies() -> Body:
    return Body(np.zeros(0, np.int64), [], {}, {})
