"""The engine: records of the log in, decisions out; a pure function of the log, its state and its keys.

Per batch: what `driver.py` does, then models, rules, outcome, body. No clock, no network: `job.py` reads and writes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from decisions import arms
from decisions.accepted import Accepted
from decisions.arms import Arms
from decisions.driver import Driver, Segment
from decisions.exploration import explored, key_of
from decisions.intake import Message
from decisions.judged import Judged
from decisions.ladder import RULES_ONLY, RUNGS, WHOLE, name_of, rung_of
from decisions.outcome import OUTCOMES, REJECTED
from decisions.record import Body, Seen, decision_ids, kept_short, lists_of, no_lists, repeated
from decisions.seat import Seat
from decisions.shelf import Shelf
from decisions.stages import Stages
from decisions.verdicts import SCORES, Scorer, Verdicts, best_rung, verdicts
from expectations.admission import ACCEPTED
from features.catalogue import feature_set_hash
from features.store import State
from lakehouse import keys
from lakehouse.codec import Column, Strings
from lakehouse.errors import Terminal
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
        self._draws, self._arms = key_of(keyring), arms.key_of(keyring)
        self.shelf, self._settings, self._told = shelf, settings, told
        self.faults: list[str] = []
        """Why decisions fell to a lower rung; whoever reads them takes them away."""
        self._champion = Seat(shelf, self.faults, settings.without_model == "stop")
        self._challenger = Seat(shelf, self.faults, False)
        """Of a traffic split."""
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
    def refused(self) -> list[str]:
        """Why control events did not take force; whoever reads them takes them away."""
        return self._driver.refused

    @property
    def stages(self) -> Stages:
        """Where the time goes."""
        return self._driver.stages

    @property
    def wanted(self) -> list[str]:
        """Digests of models in force, in a split or in shadow that are not here whole; the shelf gives them later."""
        shadow = self.state.admission.in_force.shadow_digest
        beside = None if shadow is None or self.shelf.held(shadow) is not None else shadow
        every = (self._champion.wanted, self._challenger.wanted, beside)
        return list(dict.fromkeys(one for one in every if one is not None))

    def _activate(self) -> None:
        """Take what is in force: from the shelf, or loaded once; a replay loads what a decision needs."""
        in_force, load = self.state.admission.in_force, self._told is None
        split = None if in_force.split is None else in_force.split.digest
        replaced = [self._champion.take(in_force.model_digest, load), self._challenger.take(split, load)]
        if any(replaced):
            self.shelf.keep(in_force.model_digest, split, in_force.shadow_digest, *replaced)

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

    def _reached(self, payments: Accepted, offset: Ints, split: Arms | None) -> Verdicts:
        """The verdicts over accepted payments, on the rungs that they reach or reached before."""
        at_best = np.zeros(len(offset), np.int64)
        in_force = self.state.admission.in_force
        seats = [(self._champion, np.arange(len(offset)))]
        if split is not None:
            both = ((self._champion, ~split.challenged), (self._challenger, split.challenged))
            seats = [(seat, np.flatnonzero(rows)) for seat, rows in both if rows.any()]
        if self._told is not None:
            at_best = np.array([rung_of(self._told(one)) for one in offset.tolist()], np.int64)
            for seat, rows in seats:
                seat.need(int(at_best[rows].min()))
        elif in_force.model_digest is None and self._settings.without_model == "stop":
            raise Terminal(
                f"The payment at offset {int(offset[0])} cannot be decided: no model is in force there.",
                "Activate one (python -m decisions.control activate --scope model), then bootstrap later than that.",
            )
        self.stages.done("body")
        scorers = [Scorer(seat.model, rows) for seat, rows in seats]
        found = verdicts(payments, scorers, in_force, self._driver.every_tokens, self._settings, at_best, self.stages)
        if found.fault:
            self.faults.append(f"Rules failed on payments from offset {int(offset[0])} on: {found.fault}.")
        return explored(found, payments, in_force.exploration, self._draws)

    def _split(self, judged: Judged) -> Arms | None:
        """The arms of the accepted payments; None where no split is on."""
        split = self.state.admission.in_force.split
        if split is None:
            return None
        customers = judged.batch.texts("customer_id").take(judged.accepted).to_list()
        return Arms.of(split, self._arms, customers)

    def _bodies(self, segment: Segment) -> Body:
        """One body for every accepted payment and every one that admission rejected."""
        judged, people = segment.judged["payment"], segment.people["payment"]
        decided = judged.decided
        n = len(decided)
        accepted = judged.status[decided] == ACCEPTED
        place, in_force = self.state.place, self.state.admission.in_force
        self.capped += int(segment.capped.sum())
        batch, offset, decoded = judged.batch.take(decided), judged.offset[decided], judged.part.decoded
        ids, rows = kept_short(batch.texts("transaction_id")), np.flatnonzero(accepted)
        split = self._split(judged) if len(rows) else None
        payments = segment.accepted() if len(rows) else None
        found = None if payments is None else self._reached(payments, offset[rows], split)
        verdict, valid, adverse = self._verdict(n, rows, segment, found, split)
        columns: dict[str, Column] = {
            "topic_id": repeated(place.topic_id, n),
            "partition": np.full(n, place.partition, np.int64),
            "offset": offset,
            "decision_id": Texts.of(decision_ids(place.topic_id, place.partition, offset)),
            "transaction_id": ids,
            "event_time": batch.columns["event_time"],
            "received_at": batch.columns["received_at"],
            "engine_clock": judged.clock_ms[decided],
            "rejected_by": no_lists(n) if accepted.all() else Strings.of(judged.reasons()),
            "merchant_id": kept_short(batch.texts("merchant_id")),
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
        if split is not None:
            whose = _split_columns(split, in_force.model_digest or "", rows, n)
            columns |= whose
            valid |= dict.fromkeys(whose, accepted)
        challenger = in_force.shadow_digest if in_force.shadow_digest != in_force.model_digest else None
        seen = None
        if challenger is not None and payments is not None and found is not None:
            seen = Seen(challenger, payments, found, rows)
        challenged = frozenset() if split is None else frozenset(rows[split.challenged].tolist())
        who = (self._champion.model, seen, self._challenger.model, challenged)
        return Body(offset, ids.to_list(), columns, valid, adverse, *who)

    def _verdict(
        self, n: int, at: Ints, segment: Segment, found: Verdicts | None, split: Arms | None
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
            best = np.full(len(at), best_rung(self._champion.model))
            if split is not None:
                best[split.challenged] = best_rung(self._challenger.model)
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
            "arm": repeated("", n),
            "arm_probability": np.zeros(n),
            "explored_from": Texts.of([explored_from.get(row, "") for row in range(n)])
            if explored_from
            else repeated("", n),
            **dict(zip(SCORES, score, strict=True)),
            **reasons,
        }
        valid = {**dict(zip(SCORES, has, strict=True)), "risk": has[SCORES.index("score_with_rules")]}
        valid |= {"propensity": propensity > 0, "explored_from": np.zeros(n, np.bool_)}
        valid |= dict.fromkeys(("arm", "arm_probability"), np.zeros(n, np.bool_))
        valid["explored_from"][list(explored_from)] = True
        return columns, valid, adverse


def _split_columns(split: Arms, champion: str, rows: Ints, n: int) -> dict[str, Column]:
    """What a split says of n records, of which `rows` were accepted, and which model decides each."""
    names, start, length = split.digests(champion), np.zeros(n, np.int64), np.zeros(n, np.int64)
    start[rows], length[rows] = names.start, names.length
    arm, probability = np.full(n, "", object), np.zeros(n)
    arm[rows], probability[rows] = split.names, split.probability
    digests = Texts(names.buffer, start, length)
    return {"model_digest": digests, "arm": Texts.of(arm.tolist()), "arm_probability": probability}


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
