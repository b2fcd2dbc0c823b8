"""The engine's driver of the kernel: records of the log through admission and features, before any model.

Per batch: decode, admit, tokens, features. A control event is taken alone, so that everything in one segment was
admitted under the same rules; and what is of one kind in a segment was written with one version of its schema.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from decisions.accepted import Accepted
from decisions.identities import Identities, addresses_differ, identified
from decisions.intake import Message, is_control, runs, taken_in
from decisions.judged import Judged
from decisions.stages import Stages
from features import store
from features.inputs import Admitted, Placed, authorisations, labels, payments
from features.records import empty
from features.state import Flags, Matrix
from features.store import Place, State
from features.waiting import joined
from lakehouse.crypto import Digests, up_to
from lakehouse.keys import Keyring

_NOBODY = Placed(empty(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


class Segment(NamedTuple):
    """Records between two control events or changes of a schema's version, by kind."""

    judged: dict[str, Judged]
    people: dict[str, Identities]
    vectors: Matrix
    """(accepted payments, features), in log order."""
    capped: Flags
    """Which of them named somebody who found no place below the cap of keys."""

    def accepted(self) -> Accepted:
        """Its accepted payments."""
        judged = self.judged["payment"]
        at = judged.accepted
        numbers = judged.amount[at], judged.clock_ms[at], self.vectors, self.capped
        return Accepted(judged.batch.take(at), *numbers, self.people["payment"], at)


class Driver:
    """Takes a partition of topic `events` through a state, in order."""

    def __init__(self, state: State, keyring: Keyring) -> None:
        self.state = state
        self.every_tokens = up_to(keyring, state.token_version)
        """Of every key version up to the one in force: lists may still name somebody by an older one."""
        self.tokens = self.every_tokens[-1]
        self.stages = Stages()
        self.digests = Digests(keyring)
        self.refused: list[str] = []
        """Why control events did not take force; whoever reads them takes them away."""

    def take(self, messages: Sequence[Message]) -> Iterator[Segment]:
        """Segments of the next records of the log; the state moves behind each.

        It goes no further than an event that puts another token key in force: what comes behind it needs a state under
        that key, and is refused by SnapshotRefused.
        """
        store.check_tokens(self.state)
        begin = 0
        for at in [*(i for i, m in enumerate(messages) if is_control(m)), len(messages)]:
            for run in runs(messages[begin:at]):
                yield self._segment(run)
            if at < len(messages):
                found = self.state.admission.admit(taken_in(messages[at : at + 1], self.digests).candidates)
                self.refused += [f"offset {messages[at].offset}: {why}" for why in found.refusals.values()]
                if self.state.admission.in_force.token_version != self.state.token_version:
                    self._moved_behind(messages[at])
                    return
            begin = at + 1
        if messages:
            self._moved_behind(messages[-1])

    def _moved_behind(self, message: Message) -> None:
        place = self.state.place
        self.state.place = Place(place.topic_id, place.partition, message.offset + 1)

    def _segment(self, messages: Sequence[Message]) -> Segment:
        self.stages.begin()
        intake = taken_in(messages, self.digests)
        self.stages.done("decode")
        verdicts = self.state.admission.admit(intake.candidates)
        judged = {part.kind: Judged(part, intake, verdicts) for part in intake.parts}
        self.stages.done("admission")
        # An authorisation names the people of its payment.
        known: dict[str, dict[bytes, bytes]] = {}
        people = {kind: identified(judged[kind].batch, self.tokens, known) for kind in _WITH_PEOPLE if kind in judged}
        self.stages.done("tokens")
        placed = {kind: _PLACED[kind](judged[kind], people[kind]) for kind in people}
        events = joined([placed[kind] for kind in ("payment", "authorisation") if kind in placed])
        vectors = self.state.flow.take(events, placed.get("label", _NOBODY))
        self.stages.done("features")
        return Segment(judged, people, vectors, self.state.flow.capped)


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
