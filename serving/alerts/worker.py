"""The worker: plans, delivers and tries again.

Every delivery has a thread of its own, at most LANES at a time for a channel: a target that hangs holds up its own
channel and no other, and escalation does not wait for it. Only the thread that steps asks the outbox.
"""

import random
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable
from queue import Empty, SimpleQueue

from prometheus_client import Counter, Gauge

from lakehouse import keys
from lakehouse.log import logger
from lakehouse.settings import Settings
from serving.alerts.channels import Sender
from serving.alerts.content import AlertContent, Content, VerificationContent
from serving.alerts.outbox import Message, Outbox
from serving.alerts.planning import Planned, Planner
from serving.alerts.tables import DEAD, VERIFICATION, WAITING
from serving.alerts.verifications import Verifications, code, token
from serving.alerts.webhooks import NotDelivered

LOOK_S = 5.0
"""How often what waits is counted for the metrics."""
LANES = 4
"""Deliveries of one channel at a time."""
LEASE = 3
"""A delivery that has not ended after so many times `alerts.timeout_s` is lost: libraries keep their own time."""

DELIVERIES = Counter("fraudlake_alert_deliveries", "Attempts to deliver a message", ["channel", "result"])
PLANNED = Counter("fraudlake_alerts_planned", "What became of alerts", ["result"])
MESSAGES = Gauge("fraudlake_alert_messages", "Messages that wait, and dead ones", ["channel", "state"])
OLDEST = Gauge("fraudlake_alert_oldest_seconds", "Age of the oldest message that waits", ["channel"])


def backoff_ms(attempt: int, first_s: float, longest_s: float, chance: float) -> int:
    """How long to wait after an attempt, the first being 1: doubled each time, half of it by `chance` of 0 to 1."""
    whole = min(longest_s, first_s * 2.0 ** min(attempt - 1, 60))
    return int(1000 * whole * (0.5 + 0.5 * chance))


class Worker:
    """Delivers what is in an outbox."""

    def __init__(self, settings: Settings, outbox: Outbox, now: Callable[[], float] = time.time) -> None:
        self._settings, self._at, self._outbox, self._now = settings, settings.alerts, outbox, now
        self._sender, self._planner = Sender(settings), Planner(settings.alerts)
        self._verifications = Verifications(outbox.database, settings.alerts.verification.tries)
        self._keys = keys.source(settings)
        self._running: Tally[str] = Tally()
        self._ended: SimpleQueue[tuple[Message, str | None]] = SimpleQueue()
        self._looked_s = float("-inf")

    def step(self) -> bool:
        """Note what was delivered and what was not, plan, deliver what is due; whether there is more."""
        self._settle()
        now = self._ms()
        planned: Planned = self._outbox.database.together(lambda run: self._planner.plan(run, now))
        for result in ("opened", "repeated", "stale", "escalated"):
            PLANNED.labels(result).inc(getattr(planned, result))
        lease = int(LEASE * self._at.timeout_s * 1000)
        for message in self._outbox.due(now, lease, self._at.attempts, self._running, LANES):
            self._deliver(message)
        self._look()
        return planned.more

    def _deliver(self, message: Message) -> None:
        """In a thread of its own."""
        content = self._content(message)
        if content is None:
            self._outbox.needless(message.message_id, self._ms())
            return
        self._running[message.channel] += 1
        name = f"deliver {message.channel}"
        threading.Thread(target=self._attempt, args=(message, content), name=name, daemon=True).start()

    def _attempt(self, message: Message, content: Content) -> None:
        why = None
        try:
            self._sender.send(message.channel, content, int(self._now()))
        except NotDelivered as error:
            why = str(error)
        except BaseException as error:
            # The class alone: what a library says may hold the target.
            why = type(error).__name__
        self._ended.put((message, why))

    def _settle(self) -> None:
        """Note how attempts ended. With the outbox away their leases run out, and they are made again."""
        while True:
            try:
                message, why = self._ended.get_nowait()
            except Empty:
                return
            self._running[message.channel] -= 1
            if why is None:
                self._outbox.sent(message.message_id, self._ms())
                DELIVERIES.labels(message.channel, "sent").inc()
            else:
                self._failed(message, why)

    def _content(self, message: Message) -> Content | None:
        """What the message says; None when nobody needs it any more."""
        if message.kind != VERIFICATION:
            return AlertContent(message.message_id, self._outbox.contents(message.message_id))
        one = self._verifications.find(message.subject)
        if one is None or not self._verifications.is_open(one, self._ms()):
            return None
        ring = self._keys.keyring()
        link = f"{self._at.verification.base_url}/v1/verify/{token(ring, one.verification_id, one.key_version)}"
        return VerificationContent(message.message_id, one, link, code(ring, one.verification_id, one.key_version))

    def _failed(self, message: Message, why: str) -> None:
        again = None
        if message.attempts < self._at.attempts:
            chance = random.SystemRandom().random()
            again = self._ms() + backoff_ms(message.attempts, self._at.first_retry_s, self._at.longest_retry_s, chance)
        self._outbox.failed(message, why, again, self._ms())
        DELIVERIES.labels(message.channel, "failed" if again else "dead").inc()
        told = {"channel": message.channel, "message": message.message_id, "attempt": message.attempts, "reason": why}
        if again is None:
            logger("alerts").error("a message is dead: python -m serving.alerts retry brings it back", **told)
        else:
            logger("alerts").warning("a message was not delivered", **told)

    def _look(self) -> None:
        if time.monotonic() < self._looked_s + LOOK_S:
            return
        self._looked_s = time.monotonic()
        for channel in self._at.channels:
            for state in (WAITING, DEAD):
                MESSAGES.labels(channel.name, state).set(0)
            OLDEST.labels(channel.name).set(0)
        for name, state, count, oldest in self._outbox.counts():
            MESSAGES.labels(name, state).set(count)
            if state == WAITING:
                OLDEST.labels(name).set(max(0.0, self._now() - oldest / 1000))

    def _ms(self) -> int:
        return int(self._now() * 1000)
