"""The outbox is filled from the topics as the store of decisions is: rows and progress together.

Decisions give alerts and requests, on topic `events` the API's answers without the engine give requests: each topic has
a thread of its own, so that nobody who alerts waits for what an answer needs.
"""

from dataclasses import dataclass

from confluent_kafka import Message
from prometheus_client import Counter, Gauge

from lakehouse import keys, topics
from lakehouse.fencing import Fence
from lakehouse.moments import now_ms
from lakehouse.settings import Settings
from serving.alerts.answered import REQUESTED, Answering
from serving.alerts.matched import Alert, alerts
from serving.alerts.outbox import Outbox
from serving.alerts.verifications import CHALLENGE, Request, request
from serving.decision_store import Progress
from serving.filling import Filling, Part, Told, fence_of
from serving.following import DecisionReader

WAIT_S = 0.2
EVENTS_AT_ONCE = 5_000
"""Records of `events`, of which challenges are few; all others are passed by without being decoded."""

STORED = Counter("fraudlake_alerts", "Alerts taken into the outbox", ["rule"])
FAILURES = Counter("fraudlake_alert_outbox_failures", "Calls that the outbox did not answer", ["call"])
GAPS = Counter("fraudlake_alert_outbox_gaps", "Times that retention took decisions before they were looked at")
LAG = Gauge("fraudlake_alert_outbox_lag", "Records of a topic that the outbox is behind", ["topic"])


@dataclass(frozen=True)
class Found:
    """What some decisions gave."""

    alerts: list[Alert]
    requests: list[Request]


class _Alerting:
    """Decisions through the fence, of which some alert and some ask the customer."""

    def __init__(self, settings: Settings, outbox: Outbox, began: Progress) -> None:
        self._alerts, self._outbox = settings.alerts, outbox
        self._source = keys.source(settings)
        self._reader = DecisionReader(fence_of(began))

    @property
    def fence(self) -> Fence | None:
        return self._reader.fence

    def found(self, messages: list[Message]) -> Found:
        # Decisions of the first version of their schema have no reason codes.
        decisions = [{"reason_codes": [], **one} for one in self._reader.decisions(messages)]
        asking = self._alerts.verification
        # What is older was never asked about and will not be: its customer's word would be about another day.
        since = now_ms() - self._alerts.max_age_s * 1000
        asked = [one for one in decisions if one["outcome"] == CHALLENGE and one["decided_at"] >= since]
        version = self._source.keyring().current if asked and asking.channel else 0
        return Found(
            [alert for one in decisions for alert in alerts(self._alerts.rules, one)],
            [request(one, asking, version) for one in asked] if asking.channel else [],
        )

    def write(self, found: Found, progress: Progress) -> None:
        channel = self._alerts.verification.channel or ""
        REQUESTED.inc(self._outbox.take(found.alerts, found.requests, channel, now_ms(), progress))
        for alert in found.alerts:
            STORED.labels(alert.rule).inc()


class AlertWriter(Filling):
    """A thread between topic `decisions` and the outbox."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        at_once = settings.decision_store.batch_records
        part = Part(topics.DECISIONS, at_once, WAIT_S, lambda began: _Alerting(settings, outbox, began))
        super().__init__(settings, outbox.progress, (part,), Told("alerts", FAILURES, GAPS, LAG))


class AnswerWriter(Filling):
    """A thread between topic `events` and the outbox."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        part = Part(topics.EVENTS, EVENTS_AT_ONCE, WAIT_S, lambda began: Answering(settings, outbox, began))
        super().__init__(settings, outbox.progress, (part,), Told("requests", FAILURES, GAPS, LAG))
