"""A lake that begins when the topic has forgotten its first records."""

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from features.bases import refuse_holes
from lakehouse import delta, storage, topics
from lakehouse.contracts import silver
from lakehouse.errors import RangeMissing
from lakehouse.settings import Settings
from lakehouse.spans import Span
from tests.conftest import NewContext
from tests.lakehouse.records import raw
from tests.silver.conftest import Sent, land, produce


def test_silver_begins_where_bronze_begins(broker: str, settings: Settings, context: NewContext) -> None:
    topics.ensure(settings)
    produce(settings, topics.EVENTS, [Sent(raw("payment", transaction_id=f"t{number}")) for number in range(8)])
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    place = TopicPartition(topics.topic_name(settings, topics.EVENTS), 0, 5)
    client.delete_records([place])[place].result()
    now = context(settings)
    for _ in range(2):
        land(now)
        rows = delta.rows(now.root, silver.BALANCE, ["start_offset", "offset", "received"]).to_pylist()
        assert rows == [{"start_offset": 5, "offset": 7, "received": 3}]
    (key,) = storage.written_ends(now.root, silver.BALANCE)
    with pytest.raises(RangeMissing, match=r"silver lacks offsets 0 to 5 .*bronze\.events does not hold them.*RUNBOOK"):
        refuse_holes(now.root, Span(key.rpartition("/")[0], 0, 0, 8))
