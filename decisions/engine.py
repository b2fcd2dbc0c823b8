"""The engine: records of the log in, decisions out; a pure function of the log, its state and its keys.

Per batch: what `driver.py` does, then models, rules, outcome, body. No clock, no network: `job.py` reads and writes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from decisions.accepted import Accepted
from decisions.bundle import Model
from decisions.driver import Driver, Segment
from decisions.exploration import explored, key_of
from decisions.intake import Message
from decisions.ladder import RULES_ONLY, RUNGS, WHOLE, name_of, rung_of
from decisions.outcome import OUTCOMES, REJECTED
from decisions.record import Body, Seen, decision_ids, lists_of, no_lists, repeated
from decisions.shelf import Shelf
from decisions.stages import Stages
from decisions.verdicts import SCORES, Verdicts, best_rung, verdicts
from expectations.admission import ACCEPTED
from features.catalogue import feature_set_hash
from features.store import State
from lakehouse import keys
from lakehouse.codec import Column, Strings
from lakehouse.errors import BundleRefused, Terminal
from lakehouse.settings import Ladder, Settings
from lakehouse.texts import EMPTY, Flags, Ints, Texts

Told = Callable[[int], str]
"""Of the offset of a payment the rung that its decision names."""


class Engine:
    """One deterministic writer over one partition of topic `events`.

    The rung of every decision is an input beside the log: live it follows from what is broken, in a replay it is told.
    """

    def __init__(
        self, state: State, keyring: keys.Keyring, shelf: Shelf, settings: Ladder, told: Told | None = None
    ) -> None:
        self._driver = Driver(state, keyring)
        self._draws = key_of(keyring)
        self.shelf, self._settings, self._told = shelf, settings, told
        self._model: Model | None = None
        self._refused = ""
        """Digest of the model in force where it was refused or is not whole: no reason to load it at every batch."""
        self.faults: list[str] = []
        """Why decisions fell to a lower rung; whoever reads them takes them away."""
        self.capped = 0
        """Payments so far that named somebody who found no place below the cap of keys."""
        self._activate()

    @staticmethod
    def of(settings: Settings, state: State, told: Told | None = None) -> "Engine":
        """An engine with the keys and models that the settings name."""
        return Engine(state, keys.source(settings).keyring(), Shelf.of(settings), settings.ladder, told)

    @property
    def state(self) -> State:
        """Everything that the next decision depends on."""
        return self._driver.state

    @property
    def stages(self) -> Stages:
        """Where the time goes."""
        return self._driver.stages

    @property
    def wanted(self) -> list[str]:
        """Digests of the models in force and in shadow that are not here, or not whole; the shelf gives them later."""
        in_force = self.state.admission.in_force
        serving = in_force.model_digest if best_rung(self._model) != WHOLE else None
        shadow = in_force.shadow_digest
        beside = None if shadow is None or self.shelf.held(shadow) is not None else shadow
        return [one for one in (serving, beside) if one is not None]

    def _activate(self) -> None:
        """Take what is in force: from the shelf, or loaded once; a replay loads what a decision needs."""
        digest = self.state.admission.in_force.model_digest
        if digest is None or (self._model is not None and self._model.digest == digest and not self._model.lacks):
            return
        held = self.shelf.held(digest)
        if held is not None:
            replaced = None if self._model is None else self._model.digest
            self._model, self._refused = held, ""
            self.shelf.keep(digest, self.state.admission.in_force.shadow_digest, replaced)
        elif self._told is None and self._refused != digest:
            self._load(digest)

    def _load(self, digest: str) -> None:
        self._model, self._refused = None, ""
        try:
            self._model = self.shelf.loaded(digest, whole=False)
        except BundleRefused as error:
            self._refused = digest
            if self._settings.without_model == "stop":
                raise
            self.faults.append(str(error))
        else:
            if self._model.lacks:
                self._refused = digest
                self.faults.append(self._model.lacks)

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

    def _reached(self, payments: Accepted, offset: Ints) -> Verdicts:
        """The verdicts over accepted payments, on the rungs that they reach or reached before."""
        at_best = np.zeros(len(offset), np.int64)
        in_force = self.state.admission.in_force
        if self._told is not None:
            at_best = np.array([rung_of(self._told(one)) for one in offset.tolist()], np.int64)
            self._need(int(at_best.min()), in_force.model_digest)
        elif in_force.model_digest is None and self._settings.without_model == "stop":
            raise Terminal(
                f"The payment at offset {int(offset[0])} cannot be decided: no model is in force there.",
                "Activate one (python -m decisions.control activate --scope model), then bootstrap later than that.",
            )
        self.stages.done("body")
        found = verdicts(
            payments, self._model, in_force, self._driver.every_tokens, self._settings, at_best, self.stages
        )
        if found.fault:
            self.faults.append(f"Rules failed on payments from offset {int(offset[0])} on: {found.fault}.")
        return explored(found, payments, in_force.exploration, self._draws)

    def _need(self, rung: int, digest: str | None) -> None:
        """Have what decisions of a rung were made with; BundleRefused where that is no longer to be had."""
        if self._model is not None and self._model.digest != digest:
            self._model = None
        if digest is not None and rung < best_rung(self._model):
            self._model = self.shelf.loaded(digest, whole=rung == WHOLE)

    def _bodies(self, segment: Segment) -> Body:
        """One body for every accepted payment and every one that admission rejected."""
        judged, people = segment.judged["payment"], segment.people["payment"]
        decided = judged.decided
        n = len(decided)
        accepted = judged.status[decided] == ACCEPTED
        place, in_force = self.state.place, self.state.admission.in_force
        self.capped += int(segment.capped.sum())
        batch, offset, decoded = judged.batch.take(decided), judged.offset[decided], judged.part.decoded
        rows = np.flatnonzero(accepted)
        payments = segment.accepted() if len(rows) else None
        found = None if payments is None else self._reached(payments, offset[rows])
        verdict, valid, adverse = self._verdict(n, rows, segment, found)
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
            "payload_digest": Texts.of(self._driver.digests.payloads(decoded.records.take(decided).to_list())),
            "content_digest": Texts.fixed(decoded.content[decided].astype(">i8").view(np.uint8)),
            **verdict,
        }
        valid = {**valid, **dict.fromkeys(_ONLY_ACCEPTED, accepted)}
        valid["model_digest"] = accepted if in_force.model_digest else np.zeros(n, np.bool_)
        for kind in ("card", "customer", "device", "ip"):
            columns[f"{kind}_token"] = people.texts(kind, self._driver.tokens).take(decided)
            valid[f"{kind}_token"] = people.has[kind][decided]
        transaction_id = batch.texts("transaction_id").to_list()
        challenger = in_force.shadow_digest if in_force.shadow_digest != in_force.model_digest else None
        seen = None
        if challenger is not None and payments is not None and found is not None:
            seen = Seen(challenger, payments, found, rows)
        return Body(offset, transaction_id, columns, valid, adverse, self._model, seen)

    def _verdict(
        self, n: int, at: Ints, segment: Segment, found: Verdicts | None
    ) -> tuple[dict[str, Column], dict[str, Flags], Ints]:
        """(outcome, risk, scores, rules, rung and vector, which are there, rows that models can say why of).

        `rejected` alone where not accepted.
        """
        adverse = at[:0]
        outcome, risk = [REJECTED] * n, [""] * n
        # Where in the raw vectors each vector stands.
        raw, place, length = EMPTY, np.zeros(n, np.int64), np.zeros(n, np.int64)
        score, has = np.zeros((len(SCORES), n)), np.zeros((len(SCORES), n), np.bool_)
        rung = repeated(RUNGS[WHOLE], n)
        reasons: dict[str, Column] = dict.fromkeys(_REASONS, no_lists(n))
        propensity, explored_from = np.zeros(n), dict[int, str]()
        if found is not None:
            score[:, at], has[:, at] = found.score, found.has
            raw, width = np.ascontiguousarray(segment.vectors).reshape(-1).view(np.uint8), segment.vectors.shape[1] * 4
            place[at], length[at] = np.arange(len(at)) * width, width
            for i, row in enumerate(at.tolist()):
                outcome[row], risk[row] = found.outcome[i], found.risk[i]
            best = best_rung(self._model)
            stopped = np.array([one != OUTCOMES[0] for one in found.outcome], np.bool_)
            adverse = at[stopped & (found.rung == best) & (best < RULES_ONLY)]
            if found.rung.any() or segment.capped.any():
                names = np.full(n, RUNGS[WHOLE], object)
                names[at] = list(map(name_of, found.rung.tolist(), segment.capped.tolist()))
                rung = Texts.of(names.tolist())
            if found.propensity is not None:
                propensity[at] = found.propensity
                explored_from = {int(at[i]): before for i, before in found.explored_from.items()}
            if found.ruling is not None:
                where = at[found.ruled]
                reasons = {name: lists_of(getattr(found.ruling, of), where, n) for name, of in _REASONS.items()}
        columns: dict[str, Column] = {
            "outcome": Texts.of(outcome),
            "risk": Texts.of(risk),
            "rung": rung,
            "vector": Texts(raw, place, length),
            "propensity": propensity,
            "explored_from": Texts.of([explored_from.get(row, "") for row in range(n)])
            if explored_from
            else repeated("", n),
            **dict(zip(SCORES, score, strict=True)),
            **reasons,
        }
        valid = {**dict(zip(SCORES, has, strict=True)), "risk": has[SCORES.index("score_with_rules")]}
        valid |= {"propensity": propensity > 0, "explored_from": np.zeros(n, np.bool_)}
        valid["explored_from"][list(explored_from)] = True
        return columns, valid, adverse


_REASONS = {
    "rules_fired": "fired",
    "rules_shadow": "shadow",
    "rules_suppressed": "suppressed",
    "reason_codes": "codes",
    "lists_hit": "lists",
}
"""Field of a decision -> where a ruling has it."""
_ONLY_ACCEPTED = ("amount_base_minor", "feature_set", "vector")
"""Fields of a decision that a rejected payment does not have."""
