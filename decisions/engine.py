"""The engine: records of the log in, decisions out; a pure function of the log, its state and its keys.

Per batch: what `driver.py` does, then models, rules, outcome, body. No clock, no network: `job.py` reads and writes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from decisions.bundle import Model, Scores
from decisions.driver import Driver, Segment
from decisions.intake import Message
from decisions.outcome import FULL, OUTCOMES, REJECTED, RISKS, STATE_CAPPED
from decisions.record import Body, decision_ids, lists_of, no_lists, repeated
from decisions.ruling import Ruling, Scored, ruled
from decisions.stages import Stages
from expectations.admission import ACCEPTED
from features.catalogue import feature_set_hash
from features.store import State
from lakehouse.codec import Column, Strings
from lakehouse.errors import Terminal
from lakehouse.keys import Keyring
from lakehouse.texts import Flags, Texts

ModelLoader = Callable[[str], Model]


class Engine:
    """One deterministic writer over one partition of topic `events`."""

    def __init__(self, state: State, keyring: Keyring, load_model: ModelLoader) -> None:
        self._driver = Driver(state, keyring)
        self._load_model = load_model
        self._model: Model | None = None
        self.capped = 0
        """Payments so far that named somebody who found no place below the cap of keys."""
        self._activate()

    @property
    def state(self) -> State:
        """Everything that the next decision depends on."""
        return self._driver.state

    @property
    def stages(self) -> Stages:
        """Where the time goes."""
        return self._driver.stages

    def _activate(self) -> None:
        """Load what is in force; a bundle that is refused stops the engine."""
        digest = self.state.admission.in_force.model_digest
        if digest is not None and (self._model is None or self._model.digest != digest):
            self._model = self._load_model(digest)

    def decide(self, messages: Sequence[Message]) -> list[Body]:
        """Bodies of the decisions over the next records of the log; the state moves behind them.

        Everything in one body list was decided under the same rules.
        """
        bodies = []
        for segment in self._driver.take(messages):
            self._activate()
            if "payment" in segment.judged:
                bodies.append(self._bodies(segment))
                self.stages.done("body")
        self._activate()
        return [body for body in bodies if len(body.offset)]

    def _scored(self, segment: Segment) -> tuple[Scores, Ruling]:
        """Scores of the accepted payments, and what rules and lists make of them."""
        judged, people = segment.judged["payment"], segment.people["payment"]
        at = judged.accepted
        if self._model is None:
            raise Terminal(
                f"The payment at offset {int(judged.offset[at[0]])} cannot be decided: no model is in force there.",
                "Activate one (python -m decisions.control activate --scope model), then bootstrap later than that.",
            )
        self.stages.done("body")
        scores = self._model.scores(segment.vectors)
        self.stages.done("models")
        amount, clock = judged.amount[at], judged.clock_ms[at]
        payments = Scored(judged.batch.take(at), amount, clock, segment.vectors, people, at, scores.ensemble)
        ruling = ruled(payments, self.state.admission.in_force, self._model.manifest["cuts"], self._driver.tokens)
        self.stages.done("rules")
        return scores, ruling

    def _bodies(self, segment: Segment) -> Body:
        """One body for every accepted payment and every one that admission rejected."""
        judged, people = segment.judged["payment"], segment.people["payment"]
        decided = judged.decided
        n = len(decided)
        accepted = judged.status[decided] == ACCEPTED
        place, in_force = self.state.place, self.state.admission.in_force
        self.capped += int(segment.capped.sum())
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
            "rung": _rungs(accepted, segment.capped),
            "payload_digest": Texts.of([decoded.payload[row] for row in decided.tolist()]),
            "content_digest": Texts.fixed(decoded.content[decided].astype(">i8").view(np.uint8)),
            **self._verdict(accepted, segment),
        }
        valid: dict[str, Flags] = dict.fromkeys(_ONLY_ACCEPTED, accepted)
        for kind in ("card", "customer", "device", "ip"):
            columns[f"{kind}_token"] = people.texts(kind, self._driver.tokens).take(decided)
            valid[f"{kind}_token"] = people.has[kind][decided]
        return Body(offset, batch.texts("transaction_id").to_list(), columns, valid)

    def _verdict(self, accepted: Flags, segment: Segment) -> dict[str, Column]:
        """Outcome, risk, scores, rules and vector; `rejected` and nothing else where not accepted."""
        n = len(accepted)
        at = np.flatnonzero(accepted)
        outcome, risk, vector = [REJECTED] * n, [""] * n, [b""] * n
        score = np.zeros((4, n))
        reasons: dict[str, Column] = dict.fromkeys(_REASONS, no_lists(n))
        if len(at):
            scores, ruling = self._scored(segment)
            score[:, at] = scores.ensemble, scores.xgboost, scores.isolation_forest, ruling.score
            raw, width = segment.vectors.tobytes(), segment.vectors.shape[1] * 4
            decided = zip(at.tolist(), ruling.outcome.tolist(), ruling.band.tolist(), strict=True)
            for i, (row, which, band) in enumerate(decided):
                outcome[row], risk[row] = OUTCOMES[which], RISKS[band]
                vector[row] = raw[i * width : (i + 1) * width]
            reasons = {name: lists_of(getattr(ruling, of), at, n) for name, of in _REASONS.items()}
        return {
            "outcome": Texts.of(outcome),
            "risk": Texts.of(risk),
            "vector": Texts.of(vector),
            **dict(zip(_SCORES, score, strict=True)),
            **reasons,
        }


def _rungs(accepted: Flags, capped: Flags) -> Texts:
    """Of every decision its rung; `capped` has a row an accepted payment."""
    if not capped.any():
        return repeated(FULL, len(accepted))
    found = np.full(len(accepted), FULL, object)
    found[np.flatnonzero(accepted)[capped]] = STATE_CAPPED
    return Texts.of(found.tolist())


_SCORES = ("score", "score_xgboost", "score_isolation_forest", "score_with_rules")
_REASONS = {
    "rules_fired": "fired",
    "rules_shadow": "shadow",
    "rules_suppressed": "suppressed",
    "reason_codes": "codes",
    "lists_hit": "lists",
}
"""Field of a decision -> where a ruling has it."""
_ONLY_ACCEPTED = ("amount_base_minor", "feature_set", "vector", "model_digest", "risk", *_SCORES)
"""Fields of a decision that a rejected payment does not have."""
