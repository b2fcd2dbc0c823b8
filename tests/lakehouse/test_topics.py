import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from lakehouse import topics
from lakehouse.errors import RangeMissing, Terminal, TopicReplaced
from lakehouse.settings import Settings


def _replaced(settings: Settings) -> None:
    """Delete the world's topics, wait until they are gone, and make them again."""
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    topics.delete(settings)
    while topics.topic_name(settings, topics.EVENTS) in client.list_topics(timeout=5).topics:
        time.sleep(0.05)
    topics.ensure(settings)


def test_topics_are_made_once(broker: str, settings: Settings) -> None:
    topics.ensure(settings)
    found = [topics.identify(settings, topic) for topic in topics.TOPICS]
    topics.ensure(settings)
    assert [topics.identify(settings, topic) for topic in topics.TOPICS] == found
    prefix = settings.kafka.topic_prefix
    assert [(t.name, t.partitions) for t in found] == [
        (f"{prefix}{topic}", 1) for topic in ("events", "decisions", "shadow")
    ]
    assert found[0].topic_id != found[1].topic_id


def test_topics_keep_broker_time_and_are_only_ever_deleted_by_age(broker: str, settings: Settings) -> None:
    topics.ensure(settings)
    client = AdminClient({"bootstrap.servers": broker})
    for topic, retention_h in ((topics.EVENTS, 168), (topics.DECISIONS, 720), (topics.SHADOW, 720)):
        resource = ConfigResource(ResourceType.TOPIC, topics.topic_name(settings, topic))
        config = client.describe_configs([resource])[resource].result()
        assert config["message.timestamp.type"].value == "LogAppendTime"
        assert config["cleanup.policy"].value == "delete"
        longest_ms = int(config["retention.ms"].value) + int(config["segment.ms"].value)
        assert longest_ms == retention_h * 3_600_000


def test_a_topic_that_was_made_again_is_not_the_same(broker: str, settings: Settings) -> None:
    topics.ensure(settings)
    before = topics.identify(settings, topics.EVENTS)
    before.check(before.topic_id, "the job")
    _replaced(settings)
    after = topics.identify(settings, topics.EVENTS)
    assert (after.name, after.topic_id == before.topic_id) == (before.name, False)
    with pytest.raises(
        TopicReplaced, match=rf"bronze\.events was reading topic .* with id {before.topic_id}"
    ) as refused:
        after.check(before.topic_id, "bronze.events")
    assert "start a new lake root" in refused.value.do


def test_a_topic_that_does_not_exist_is_named(broker: str, settings: Settings) -> None:
    with pytest.raises(RangeMissing, match=rf"no topic {settings.kafka.topic_prefix}events\. `make topics`"):
        topics.identify(settings, topics.EVENTS)


def test_a_broker_that_is_away_is_named_in_one_sentence() -> None:
    away = {"FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S": "1"}
    found = subprocess.run(
        [sys.executable, "-m", "lakehouse.topics"], env={**os.environ, **away}, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert re.fullmatch(
        r"The Kafka broker at 127\.0\.0\.1:9 does not answer \(\w+\)\. "
        r"`make up` starts the local one, `make status` shows it\.\n",
        found.stderr,
    )


def test_what_the_broker_refuses_is_not_called_an_outage(broker: str, settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"replication_factor": 3})
    with pytest.raises(Terminal, match="The Kafka broker refused: InvalidReplicationFactorError"):
        topics.ensure(settings.model_copy(update={"kafka": kafka}))


def test_topics_may_be_made_from_two_places_at_once(broker: str, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(topics.ensure, [settings] * 4))
    assert topics.identify(settings, topics.EVENTS).partitions == 1
