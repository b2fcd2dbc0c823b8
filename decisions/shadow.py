"""A challenger in shadow: it scores what was decided, after the decision is on its way, and nothing acts on it.

Its records go to topic `shadow`, one a payment. What they say of a payment follows from the log, so whoever writes one
twice repeats it, and readers take the first of a source position. Whatever becomes of a challenger, decisions go on:
payments that it did not score are counted.
"""

import time
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from confluent_kafka import KafkaError, Message, Producer
from prometheus_client import Counter

from decisions.bundle import Model
from decisions.ladder import RUNGS, WHOLE, name_of
from decisions.record import Body, Seen, repeated
from decisions.shelf import Shelf
from decisions.stages import Stages
from decisions.verdicts import SCORES, Verdicts, again
from lakehouse import broker, topics
from lakehouse.codec import Batch, Column, slices
from lakehouse.errors import BundleRefused
from lakehouse.log import logger
from lakehouse.moments import now_ms
from lakehouse.registry import registry
from lakehouse.settings import Ladder, Settings
from lakehouse.texts import Flags, Texts
from lakehouse.version import VERSION

SCORED = Counter("fraudlake_engine_shadow", "Payments that a challenger in shadow scored")
PASSED_OVER = Counter("fraudlake_engine_shadow_passed_over", "Payments without a record of the challenger in shadow")

LINGER_MS = 5.0
FLUSH_S = 0.1
"""How long records are collected, and how long a snapshot waits for those on their way: twenty times as long."""

_COPIED = ("topic_id", "partition", "offset", "decision_id", "transaction_id", "event_time", "card_token")
_OF_CHAMPION = {
    "champion_digest": "model_digest",
    "champion_score": "score",
    "amount_base_minor": "amount_base_minor",
}
"""Field of a shadow record -> field of the decision."""


def records(body: Body, seen: Seen, found: Verdicts, scored_ms: int, scoring_us: float) -> list[bytes]:
    """The records of the accepted payments of a body."""
    schema, n = registry().latest("shadow"), len(seen.rows)
    from_decision = {**{name: name for name in _COPIED}, **_OF_CHAMPION}
    columns: dict[str, Column] = {name: _taken(body.columns[of], seen) for name, of in from_decision.items()}
    columns |= {
        "model_digest": repeated(seen.challenger, n),
        "champion_outcome": Texts.of(_unexplored(seen.verdicts)),
        "rung": _rungs(found, seen),
        "outcome": Texts.of(found.outcome),
        "risk": Texts.of(found.risk),
        "scored_at": np.full(n, scored_ms, np.int64),
        "scoring_us": np.full(n, scoring_us),
        "code_version": repeated(VERSION, n),
        **dict(zip(SCORES, found.score, strict=True)),
    }
    valid: dict[str, Flags] = dict(zip(SCORES, found.has, strict=True))
    valid["risk"] = found.has[SCORES.index("score_with_rules")]
    for name in ("champion_digest", "champion_score"):
        valid[name] = body.valid[_OF_CHAMPION[name]][seen.rows]
    return slices(*schema.codec.encode(Batch(n, columns, valid), schema.prefix))


def _unexplored(verdicts: Verdicts) -> list[str]:
    """What was decided, before exploration let some through: the challenger's outcomes are without it too."""
    if not verdicts.explored_from:
        return verdicts.outcome
    return [verdicts.explored_from.get(row, outcome) for row, outcome in enumerate(verdicts.outcome)]


def _rungs(found: Verdicts, seen: Seen) -> Texts:
    if not found.rung.any() and not seen.payments.capped.any():
        return repeated(RUNGS[WHOLE], len(seen.rows))
    return Texts.of(list(map(name_of, found.rung.tolist(), seen.payments.capped.tolist())))


def _taken(column: Column, seen: Seen) -> Column:
    if isinstance(column, np.ndarray):
        taken: Column = column[seen.rows]
        return taken
    assert isinstance(column, Texts)
    return column.take(seen.rows)


class Shadow:
    """Scores bodies by the challenger that was in shadow at their place of the log, and writes what it finds."""

    def __init__(self, settings: Settings, partition: int, shelf: Shelf, stages: Stages) -> None:
        self._name, self._partition = topics.topic_name(settings, topics.SHADOW), partition
        self._ladder: Ladder = settings.ladder
        self._shelf, self._stages = shelf, stages
        self._settings = settings
        self._tried: set[str] = set()
        self._told: set[str] = set()
        self._log = logger("engine")

    @cached_property
    def _producer(self) -> Producer:
        return broker.producer(self._settings, linger_ms=LINGER_MS, compression="lz4", failures_only=True)

    def prepare(self, digest: str | None) -> Model | None:
        """The challenger, loaded where an engine begins behind its staging; None, and the reason logged, without it.

        One that is refused is tried again by the stager.
        """
        held = None if digest is None else self._shelf.held(digest)
        if digest is None or held is not None or digest in self._tried:
            return held
        self._tried.add(digest)
        try:
            return self._shelf.loaded(digest)
        except BundleRefused as error:
            self._tell(digest, error.what)
        except Exception as error:
            self._tell(digest, type(error).__name__)
        return None

    def take(self, bodies: Iterable[Body]) -> None:
        """Score what was decided; it never raises."""
        self._stages.begin()
        for body in bodies:
            if body.seen is None:
                continue
            try:
                self._take(body, body.seen)
            except Exception as error:  # whatever it is, decisions go on
                PASSED_OVER.inc(len(body.seen.rows))
                self._tell(body.seen.challenger, type(error).__name__)

    def _take(self, body: Body, seen: Seen) -> None:
        model = self.prepare(seen.challenger)
        if model is None:
            PASSED_OVER.inc(len(seen.rows))
            return
        found, scoring_us = self._scored(model, seen)
        keys = [body.transaction_id[row] for row in seen.rows.tolist()]
        made = records(body, seen, found, now_ms(), scoring_us)
        for record, key in zip(made, keys, strict=True):
            self._producer.produce(self._name, record, key, partition=self._partition, on_delivery=self._failed)
        self._producer.poll(0)
        SCORED.inc(len(made))
        self._stages.done("shadow_records")

    def _scored(self, model: Model, seen: Seen) -> tuple[Verdicts, float]:
        began = time.perf_counter()
        found = again(seen.payments, model, self._ladder, seen.verdicts)
        self._stages.done("shadow_models")
        return found, (time.perf_counter() - began) * 1e6 / len(seen.rows)

    def flush(self, at_most_s: float = FLUSH_S) -> None:
        """Wait for the broker a little: decisions do not wait for a challenger."""
        if "_producer" in self.__dict__:
            self._producer.flush(at_most_s)

    def _failed(self, error: KafkaError, _message: Message) -> None:
        PASSED_OVER.inc()
        self._tell(error.name(), "a record was not written")

    def _tell(self, what: str, why: str) -> None:
        """Log it once for the same trouble."""
        if f"{what}{why}" not in self._told:
            self._told.add(f"{what}{why}")
            self._log.warning("the challenger does not score in shadow, deciding goes on", of=what, reason=why)
