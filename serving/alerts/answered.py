"""Requests for a customer's word on payments that the API challenged without the engine.

An answer names its payment and nothing else. What a request tells of it is made of the payment, which lies before its
answer on topic `events`, as the engine would make it: by the keys and rates in force. The engine, which may be away for
long, is not waited for; where it challenges the payment too, that is the same request.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from confluent_kafka import Message
from prometheus_client import Counter

from decisions.ladder import in_base_currency
from decisions.record import decision_ids
from expectations.control import InForce
from expectations.decoded import heard
from lakehouse import broker, keys, signing, topics
from lakehouse.crypto import Digests, Tokens
from lakehouse.log import logger
from lakehouse.moments import now_ms
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings, resolve
from lakehouse.single import read
from lakehouse.texts import Texts
from serving.alerts.outbox import Outbox
from serving.alerts.verifications import CHALLENGE, Request, request
from serving.decision_store import ANSWER, Progress
from serving.following import answer_records
from serving.standing import offered

LOOK_BACK = 100_000
"""Records before an answer among which its payment is looked for: its API wrote it some seconds before, at most."""
KEPT = 2_000
"""Of these, kept in memory: nearly every payment of an answer is among them."""
AT_ONCE = 10_000
"""Of the others, read together, the nearest first."""

REQUESTED = Counter("fraudlake_verifications_requested", "Challenged payments whose customers are asked")
WITHOUT_PAYMENT = Counter(
    "fraudlake_verifications_without_payment", "Challenges of the API whose payments are not before them on the log"
)

_PAYMENTS = {schema.prefix: schema for schema in registry().versions("payment")}


class Answering:
    """Records of topic `events`, of which some are answers that challenge."""

    fence = None

    def __init__(self, settings: Settings, outbox: Outbox, began: Progress) -> None:
        self._settings, self._alerts, self._outbox, self._place = settings, settings.alerts, outbox, began
        self._name = topics.topic_name(settings, topics.EVENTS)
        self._source = keys.source(settings)
        self._digests = Digests(self._source.keyring())
        self._trust = signing.trust(resolve(settings.keys.folder))
        self._recent: list[Message] = []
        """The records before those that are looked at."""
        self._now: InForce | None = None
        """What is in force; None while no challenge asked for it, so that most readers need no lake."""

    def found(self, messages: list[Message]) -> list[Request]:
        """The requests of what was challenged."""
        if self._now is not None:
            for event in heard(messages, self._digests):
                offered(self._now, event, self._trust)
        since = now_ms() - self._alerts.max_age_s * 1000
        appended = {message.offset(): message.timestamp()[1] for message in messages}
        # The first answer to a transaction is the one that counts.
        challenged = {
            word.transaction_id: word.offset
            for word in reversed(answer_records(messages, self._digests))
            if word.kind == ANSWER and word.outcome == CHALLENGE and appended[word.offset] >= since
        }
        recent, self._recent = self._recent, [*self._recent, *messages][-KEPT:]
        if not challenged:
            return []
        if self._now is None:
            # What reads tables is heavy, and most who alert never need it.
            from decisions.control import past

            self._now = past(self._settings, self._trust).now
        tokens = Tokens(self._source.keyring(), self._now.token_version)
        payments = self._payments(challenged, [*recent, *messages])
        if lost := len(challenged) - len(payments):
            WITHOUT_PAYMENT.inc(lost)
            logger("alerts").error("payments of answers are not on the log: their customers are not asked", count=lost)
        return [
            self._request(payment, appended[challenged[name]], self._now, tokens) for name, payment in payments.items()
        ]

    def write(self, found: list[Request], progress: Progress) -> None:
        """Ask, but for what is asked already."""
        channel = self._alerts.verification.channel or ""
        REQUESTED.inc(self._outbox.take([], found, channel, now_ms(), progress))

    def _payments(self, challenged: Mapping[str, int], messages: list[Message]) -> dict[str, Message]:
        """The payments of transactions, each before the offset of its answer."""
        found = _of_transactions(messages, challenged)
        if len(found) == len(challenged):
            return found
        end = messages[0].offset() or 0
        low, _ = broker.watermarks(self._settings, self._name, self._place.partition)
        low = max(low, end - LOOK_BACK)
        while end > low and len(found) < len(challenged):
            begin = max(low, end - AT_ONCE)
            older = broker.read_range(self._settings, self._name, self._place.partition, begin, end)
            found = _of_transactions(older, challenged) | found
            end = begin
        return found

    def _request(self, message: Message, answered_ms: int, now: InForce, tokens: Tokens) -> Request:
        """The request of a payment that was challenged at a moment, by the broker's clock."""
        value, offset = message.value() or b"", message.offset() or 0
        payment: dict[str, Any] = read(_PAYMENTS[value[:PREFIX_BYTES]], value)
        place = self._place
        as_decided = {
            **{name: payment[name] for name in ("transaction_id", "merchant_id", "received_at")},
            "decision_id": decision_ids(place.topic_id, place.partition, np.array([offset]))[0].decode(),
            "topic_id": place.topic_id,
            "partition": place.partition,
            "offset": offset,
            "customer_token": tokens.texts("customer", [payment["customer_id"].encode()])[0],
            "amount_base_minor": in_base_currency(now.reference, payment["amount_minor"], payment["currency"]),
            "reason_codes": (),
            "decided_at": answered_ms,
        }
        made = request(as_decided, self._alerts.verification, self._source.keyring().current)
        # No rule looked whether somebody has taken over the account.
        return replace(made, suspected=1)


def _of_transactions(messages: list[Message], challenged: Mapping[str, int]) -> dict[str, Message]:
    """The last payments of transactions before their answers; of the same bytes sent again, the first."""
    out: dict[str, Message] = {}
    wanted = {name.encode(): name for name in challenged}
    for prefix, schema in _PAYMENTS.items():
        ours = [
            message
            for message in messages
            if (value := message.value() or b"").startswith(prefix) and any(name in value for name in wanted)
        ]
        texts = Texts.of([message.value() or b"" for message in ours])
        decoded = schema.codec.decode(texts.buffer, texts.start + PREFIX_BYTES, texts.start + texts.length)
        sound = np.flatnonzero(decoded.fault == 0)
        names = decoded.batch.texts("transaction_id").take(sound).to_list()
        for at, text in zip(sound.tolist(), names, strict=True):
            name, message = wanted.get(text), ours[at]
            if name is None or (message.offset() or 0) > challenged[name]:
                continue
            if name not in out or out[name].value() != message.value():
                out[name] = message
    return out
