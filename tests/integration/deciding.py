"""Reading decisions as a stranger would: from the topic, with fastavro, through nothing of the engine's."""

import io
import struct

import fastavro

from lakehouse import broker, topics
from lakehouse.registry import registry

SCHEMAS = {s.id: (s.kind, fastavro.parse_schema(dict(s.parsed))) for s in registry().schemas}


def read(settings, topic):
    """(offset, kind, record) of everything on a topic; kind None where it cannot be decoded."""
    name = topics.topic_name(settings, topic)
    low, high = broker.watermarks(settings, name, 0)
    out = []
    for message in broker.read_range(settings, name, 0, low, high):
        value = message.value() or b""
        try:
            _, schema_id = struct.unpack(">bI", value[:5])
            kind, schema = SCHEMAS[schema_id]
            body = io.BytesIO(value[5:])
            record = fastavro.schemaless_reader(body, schema)
            assert body.read() == b""
        except Exception:
            kind, record = None, None
        out.append((message.offset(), kind, record))
    return out


def counted(settings):
    """Source offset -> decision, by the rule for readers: the newest engine's only, the first of each."""
    found, office = {}, -1
    for offset, kind, record in read(settings, topics.DECISIONS):
        if kind == "engine_start":
            office = offset
        elif kind == "decision" and record["epoch"] == office and record["offset"] not in found:
            found[record["offset"]] = record
    return found
