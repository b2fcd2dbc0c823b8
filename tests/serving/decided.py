"""Decisions for the tests of their stores, and stores of a test's own."""

import os
import signal

from deploy.local import job as services
from lakehouse import settings as conf
from serving.decision_store import ANSWER, END, Answer, Progress, stored
from tests.lakehouse.records import T0, record


def with_store(settings, **changes):
    """Settings with other settings of the decision store."""
    return settings.model_copy(update={"decision_store": settings.decision_store.model_copy(update=changes)})


class Card:
    """A card and a topic that no other test has, so that tests can share one store."""

    def __init__(self, name):
        self.token, self.topic = f"v1:{name}", f"topic-{name}"

    def fields(self, offset, **changes):
        """The fields of its decision at an offset, each a second of the engine's clock after the one before."""
        return {
            "topic_id": self.topic,
            "offset": offset,
            "decision_id": f"{self.topic}/{offset}",
            "transaction_id": f"{self.token}/{offset}",
            "card_token": self.token,
            "engine_clock": T0 + 1000 * offset,
            **changes,
        }

    def decision(self, offset, **changes):
        """That decision as a store takes it."""
        return stored(record("decision", **self.fields(offset, **changes)))

    def answer(self, offset, outcome="review", at=0):
        """What the API answered the payment of an offset; the answer lies at `at` of topic `events`."""
        return Answer(f"{self.token}/{offset}", ANSWER, outcome, f"{self.topic}-events", 0, at)

    def end(self, offset, result="approved", at=0):
        """How the challenge of the payment of an offset ended."""
        return Answer(f"{self.token}/{offset}", END, result, f"{self.topic}-events", 0, at)

    def progress(self, next_offset, first=0, epoch=-1, decided=-1):
        """A store that has all of its topic before an offset."""
        return Progress(self.topic, 0, first, next_offset, epoch, decided)

    def put(self, store, *offsets, answers=(), **changes):
        """Let a store have decisions at these offsets."""
        store.write([self.decision(n, **changes) for n in offsets], answers, self.progress(max(offsets, default=0) + 1))

    def offsets(self, store, limit=20, before=None):
        """Offsets of its page."""
        return [one.offset for one in store.of_card(self.token, limit, before)]


def variables(settings):
    """The environment in which a process sees the stores of these settings."""
    return {
        **os.environ,
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__DECISION_STORE__KIND": settings.decision_store.kind,
        "FRAUDLAKE__DECISION_STORE__FILE": str(settings.decision_store.file),
        "FRAUDLAKE__POSTGRES__PORT": str(settings.postgres.port),
        "FRAUDLAKE__POSTGRES__PASSWORD_FILE": str(settings.postgres.password_file),
        "FRAUDLAKE__CASSANDRA__PORT": str(settings.cassandra.port),
        "FRAUDLAKE__CASSANDRA__PASSWORD_FILE": str(settings.cassandra.password_file),
    }


class Server:
    """The server of a store that this run started, which a test may end and start again."""

    def __init__(self, kind):
        self.settings, self.module = conf.load(), services.ADDED[kind][0]
        self.service = services.service(kind, services.services_folder(self.settings))

    def start(self):
        """Start it and wait until it answers."""
        services.up(self.settings, (self.module,))

    def stop(self):
        """End it."""
        self.service.stop()

    def kill(self):
        """End it as a failure of the machine would, in the middle of whatever it does."""
        pid = self.service.pid()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
