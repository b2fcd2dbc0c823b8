"""A stretch of log from the simulator, as messages, behind the control events that it needs."""

import threading
from contextlib import contextmanager

import numpy as np
import orjson

from decisions.control import activate, encoded, prepared, put_model
from decisions.engine import Engine
from decisions.intake import Message
from decisions.job import Process
from decisions.staging import BY_HAND, staged_record
from expectations.control import Version
from features import store
from features.store import Place
from lakehouse import broker, topics
from lakehouse import settings as conf
from lakehouse.registry import PREFIX_BYTES
from lakehouse.signing import signer
from lakehouse.single import read
from simulator.options import Options
from simulator.world import days, world

END_MS = 1_795_000_000_000
TOPIC_ID = "00000000-0000-0000-0000-000000000001"


def keys_folder(settings):
    return conf.resolve(settings.keys.folder)


def control(settings, versions, scope, payload, received_ms=END_MS - 10**9):
    """The record of the next control event of a scope; `versions` takes it over."""
    folder = keys_folder(settings)
    event = prepared(scope, payload, versions, signer(folder / "author.pem"), signer(folder / "approver.pem"))
    versions[scope] = Version(event.version, event.digest, event.payload)
    return encoded(event, received_ms)


def payload(digest):
    """The payload of a control event that names a model, or with None nobody."""
    return orjson.dumps({"digest": digest}).decode()


def model(settings, versions, digest, received_ms=END_MS - 10**9):
    """The records that stage a model and put it into force."""
    return [
        control(settings, versions, "staging", payload(digest), received_ms),
        staged_record(digest, received_ms, BY_HAND, None),
        control(settings, versions, "model", payload(digest), received_ms),
    ]


def reference():
    return (conf.home() / "conf" / "reference.json").read_text()


def payments(seed=1, span=2, per_day=600, faults=0):
    """Values of topic events, in order: payments, authorisations and labels of a small world."""
    options = Options(end_ms=END_MS, days=span, payments_per_day=per_day, seed=seed, fraud_rate=0.02, faults=faults)
    return [value for day in days(world(options)) for value in day.records.payload.to_list()]


def messages(values, first=0):
    """The values as messages from an offset on."""
    return [Message(first + i, END_MS, value) for i, value in enumerate(values)]


def engine(settings, state=None, told=None):
    """An engine over a fresh state, or over the one given."""
    state = store.new(settings, Place(TOPIC_ID, 0, 0)) if state is None else state
    return Engine.of(settings, state, told)


def decided(engine, messages, cuts=()):
    """Encoded bodies of all decisions, deciding the messages in pieces."""
    bodies = []
    for a, b in zip([0, *cuts], [*cuts, len(messages)], strict=True):
        for body in engine.decide(messages[a:b]):
            bodies += body.encoded()
    return bodies


def columns(bodies):
    """Encoded bodies as dictionaries; the envelope is filled with nothing."""
    from decisions.record import Envelope, sealed
    from lakehouse.registry import PREFIX_BYTES, registry
    from lakehouse.texts import Texts

    records = sealed(list(bodies), Envelope(0, 0, 0, "", ""))
    texts = Texts.of(records)
    found = (
        registry().latest("decision").codec.decode(texts.buffer, texts.start + PREFIX_BYTES, texts.start + texts.length)
    )
    assert not found.fault.any()
    out = []
    for row in range(len(records)):
        one = {}
        for name, column in found.batch.columns.items():
            has = found.batch.has(name)[row]
            if isinstance(column, np.ndarray):
                one[name] = column[row].item() if has else None
            elif isinstance(column, Texts):
                one[name] = column.get(row) if has else None
            else:
                one[name] = column.to_list()[row]
        out.append(one)
    return out


def pay(settings, values):
    """Write records to topic `events`."""
    writer = broker.producer(settings)
    for value in values:
        writer.produce(topics.topic_name(settings, topics.EVENTS), value, partition=0)
    assert writer.flush(10) == 0


def on(settings, topic, schema):
    """The records of a schema on a topic."""
    name = topics.topic_name(settings, topic)
    values = [m.value() for m in broker.read_range(settings, name, 0, 0, broker.watermarks(settings, name, 0)[1])]
    return [read(schema, value) for value in values if value[:PREFIX_BYTES] == schema.prefix]


def turned(process, work=lambda: None):
    """Have an engine decide what comes until some work in another thread is done; what that raised."""
    raised = []

    def done():
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=done)
    thread.start()
    while thread.is_alive():
        process.once()
    process.once()
    return raised


@contextmanager
def in_office(settings, digest):
    """An engine in office over a real log, a model in force; (its process, who signs control events)."""
    topics.ensure(settings)
    folder = keys_folder(settings)
    signed = (folder / "author.pem", folder / "approver.pem", END_MS - 10**9)
    activate(settings, "reference", reference(), *signed)
    put_model(settings, digest, *signed, here=True)
    process = Process(settings)
    process.take_office()
    yield process, signed
    process.close()
