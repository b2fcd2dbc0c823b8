"""How challenges end, on the log: an `outcome`, and where the customer answered, a `label`.

A label carries the payment's keys. We hold only tokens, so the payment is read again from the place in the log that the
request names, where it lies for days. All ids and times follow from the request: written twice, the second is a
duplicate of the first.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter

from decisions.effective import DECLINED, EXPIRED
from lakehouse import broker, topics
from lakehouse.alert_settings import Verification
from lakehouse.log import logger
from lakehouse.moments import now_ms
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.single import read, written
from serving.alerts.verifications import Request, Verifications

LEASE_MS = 30_000
"""For the broker's word; then another worker may write it."""
AT_ONCE = 32

ENDED = Counter("fraudlake_verifications_ended", "Challenges that ended", ["result"])
WITHOUT_LABEL = Counter("fraudlake_verifications_without_label", "Answers whose payment the log does not have any more")

_OUTCOME, _LABEL = registry().latest("outcome"), registry().latest("label")
_PAYMENTS = {schema.prefix: schema for schema in registry().versions("payment")}
_OF_PAYMENT = (
    *("transaction_id", "card_number", "customer_id", "merchant_id", "device_id", "ip_address"),
    *("event_time", "amount_minor", "currency"),
)


def ended_at(request: Request) -> int:
    """When a challenge ended, in the payment's own time: a replayed one is not answered a year later.

    Never after it ended on the wall: whoever reads the log refuses what claims to come from the future.
    """
    wall = request.ended_at or request.expires_at
    return min(request.received_at + max(0, wall - request.decided_at), wall)


def outcome(request: Request) -> dict[str, Any]:
    """The fields of the outcome of an ended request."""
    return {
        "outcome_id": request.verification_id,
        "transaction_id": request.transaction_id,
        "received_at": ended_at(request),
        "result": request.result,
    }


def label(request: Request, payment: Mapping[str, Any], settings: Verification) -> dict[str, Any]:
    """The fields of the label that an answer is."""
    is_fraud = request.result == DECLINED
    believed = settings.confidence_me_takeover if request.suspected else settings.confidence_me
    return {
        "label_id": f"verification-{request.verification_id}",
        **{name: payment[name] for name in _OF_PAYMENT},
        "is_fraud": is_fraud,
        "source": "customer",
        "confidence": settings.confidence_not_me if is_fraud else believed,
        "received_at": ended_at(request),
        "label_available_at": ended_at(request),
        "reverses": None,
    }


class Results:
    """Writes ends of challenges to topic `events`."""

    def __init__(self, settings: Settings, verifications: Verifications) -> None:
        self._settings, self._verifications = settings, verifications
        self._name = topics.topic_name(settings, topics.EVENTS)
        self._made: Any = None

    def step(self) -> bool:
        """Write those that have ended by now; whether there may be more."""
        ended = self._verifications.ended(now_ms(), LEASE_MS, AT_ONCE)
        for one in ended:
            if not self._write(one):
                # The broker does not answer; those that are left are tried again when their lease is over.
                return False
            self._verifications.written(one)
        return len(ended) == AT_ONCE

    def _write(self, request: Request) -> bool:
        """Whether the log has it now; else it has to be written again."""
        records = [written(_OUTCOME, outcome(request))]
        if request.result != EXPIRED:
            payment = self._payment(request)
            if payment is None:
                WITHOUT_LABEL.inc()
                logger("alerts").error("the payment is not on the log: no label", verification=request.verification_id)
            else:
                records.append(written(_LABEL, label(request, payment, self._settings.alerts.verification)))
        if self._made is None:
            self._made = broker.producer(self._settings)
        placed = [broker.placed(self._settings, self._made, self._name, request.partition, one) for one in records]
        if None in placed:
            return False
        ENDED.labels(request.result or "").inc()
        return True

    def _payment(self, request: Request) -> dict[str, Any] | None:
        """The payment; None when its topic was replaced or retention took it."""
        identity = topics.identify(self._settings, topics.EVENTS)
        low, high = broker.watermarks(self._settings, identity.name, request.partition)
        if identity.topic_id != request.topic_id or not low <= request.offset < high:
            return None
        place = (request.partition, request.offset, request.offset + 1)
        value = broker.read_range(self._settings, identity.name, *place)[0].value() or b""
        schema = _PAYMENTS.get(value[: len(_OUTCOME.prefix)])
        return None if schema is None else read(schema, value)
