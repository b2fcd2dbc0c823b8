"""The topics: their names, what travels on each, how they are made, and their identity.

A topic that was deleted and made again has another id and offsets from zero. Whoever stores an offset stores the id
with it and asks `TopicIdentity.check` before trusting the number.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from confluent_kafka import KafkaError as ClientError
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import BrokerResponseError, KafkaError, RetriableError, TopicAlreadyExistsError

from lakehouse.errors import BrokerUnavailable, FraudlakeError, RangeMissing, Terminal, TopicReplaced
from lakehouse.settings import Settings, load

EVENTS = "events"
DECISIONS = "decisions"
SHADOW = "shadow"
TOPICS = (EVENTS, DECISIONS, SHADOW)

EVENT_KINDS = ("payment", "authorisation", "label", "control", "answer", "outcome", "erasure", "staged")
DECISION_KINDS = ("decision", "engine_start", "reasons")
SHADOW_KINDS = ("shadow",)
"""Schema subjects by topic. Records of `decisions` and `shadow` are keyed by transaction_id; those of `events` have no
key."""

SEGMENTS = 7
"""Kafka deletes by whole files, and a record stays until the last of its file is old. A file takes a seventh of the
time, and is deleted when it is older than the other six: no record stays longer than the setting says."""


def topic_name(settings: Settings, topic: str) -> str:
    """The name of a topic on the broker."""
    return settings.kafka.topic_prefix + topic


@dataclass(frozen=True)
class TopicIdentity:
    """A topic as the broker knows it now."""

    name: str
    topic_id: str
    partitions: int

    def check(self, remembered: str, who: str) -> None:
        """TopicReplaced when `remembered` is not this topic's id."""
        if remembered != self.topic_id:
            raise TopicReplaced(
                f"{who} was reading topic {self.name} with id {remembered}; the broker now has id {self.topic_id}, "
                "so offsets mean other records.",
                "If the topic was replaced on purpose, start a new lake root and engine state for it; "
                "if not, restore the broker's data.",
            )


@contextmanager
def _admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    timeout_ms = settings.kafka.request_timeout_s * 1000
    try:
        client = KafkaAdminClient(
            bootstrap_servers=settings.kafka.bootstrap_servers.split(","),
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
        )
    except KafkaError as error:
        raise unavailable(settings, error) from None
    try:
        yield client
    except KafkaError as error:
        if isinstance(error, BrokerResponseError) and not isinstance(error, RetriableError):
            raise Terminal(f"The Kafka broker refused: {type(error).__name__}: {error}.") from None
        raise unavailable(settings, error) from None
    finally:
        client.close()


def unavailable(settings: Settings, error: object) -> BrokerUnavailable:
    """The error of a broker that does not answer."""
    told = error.args[0] if isinstance(error, Exception) and error.args else None
    why = told.name() if isinstance(told, ClientError) else type(error).__name__
    return BrokerUnavailable(
        f"The Kafka broker at {settings.kafka.bootstrap_servers} does not answer ({why}).",
        "`make up` starts the local one, `make status` shows it.",
    )


def _kept(at_most_ms: int) -> dict[str, str]:
    segment_ms = at_most_ms // SEGMENTS
    return {"segment.ms": str(segment_ms), "retention.ms": str(at_most_ms - segment_ms)}


def ensure(settings: Settings) -> None:
    """Make the topics that do not exist yet; broker time, delete only, `events` for at most seven days."""
    common = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "min.insync.replicas": str(settings.kafka.min_insync_replicas),
    }
    retention_h = dict.fromkeys(TOPICS, settings.kafka.decisions_retention_h)
    retention_h[EVENTS] = settings.kafka.events_retention_h
    with _admin(settings) as admin:
        existing = set(admin.list_topics())
        wanted = [
            NewTopic(
                topic_name(settings, topic),
                settings.kafka.partitions,
                settings.kafka.replication_factor,
                topic_configs={**common, **_kept(hours * 3_600_000)},
            )
            for topic, hours in retention_h.items()
            if topic_name(settings, topic) not in existing
        ]
        if wanted:
            with suppress(TopicAlreadyExistsError):  # somebody else made them just now
                admin.create_topics(wanted)
            # A broker answers before its own metadata knows the topics.
            deadline = time.monotonic() + settings.kafka.request_timeout_s
            while not {topic.name for topic in wanted} <= set(admin.list_topics()) and time.monotonic() < deadline:
                time.sleep(0.05)


def identify(settings: Settings, topic: str) -> TopicIdentity:
    """The topic's identity; RangeMissing when it does not exist."""
    name = topic_name(settings, topic)
    with _admin(settings) as admin:
        found = admin.describe_topics([name])[0]
    if found["error_code"]:
        raise RangeMissing(f"There is no topic {name}.", "`make topics` creates the topics.")
    return TopicIdentity(name, str(found["topic_id"]), len(found["partitions"]))


def delete(settings: Settings) -> None:
    """Delete the topics of this prefix; only a world that is being wiped calls this."""
    names = [topic_name(settings, topic) for topic in TOPICS]
    with _admin(settings) as admin:
        admin.delete_topics([name for name in names if name in set(admin.list_topics())])


def main(argv: list[str]) -> None:
    """Make the topics that do not exist yet, and print each with its id."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.topics", description=main.__doc__)
    parser.add_argument("--env")
    settings = load(parser.parse_args(argv).env)
    ensure(settings)
    for topic in TOPICS:
        found = identify(settings, topic)
        print(f"{found.name}: id {found.topic_id}, {found.partitions} partitions")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FraudlakeError as error:
        sys.exit(str(error))
