"""Put a change into force: a control event on the log, signed by an author and by somebody else who approves.

    python -m decisions.control activate --scope reference --file conf/reference.json
    python -m decisions.control activate --scope model --digest SHA256
    python -m decisions.control show

The event names the version and digest that it follows; engine and silver refuse it when something else came first, so
the tool looks at the log before it writes and waits until its own event can be read back.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from expectations.control import SCOPES, ControlEvent, Version, check, payload_digest
from expectations.decoded import broken_rules, control_event, decode
from lakehouse import broker, delta, jobs, keys, topics, trail
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.codec import Batch, slices
from lakehouse.contracts import silver
from lakehouse.crypto import Digests
from lakehouse.errors import BrokerUnavailable, ControlRefused
from lakehouse.moments import moment_ms
from lakehouse.registry import registry, schema_ids
from lakehouse.settings import Settings
from lakehouse.signing import Signer, Trust, signer, trust
from lakehouse.texts import Texts

PARTITION = 0
_CHUNK = 50_000


def in_silver(settings: Settings) -> tuple[dict[str, Version], int]:
    """(versions in force, first offset that silver has not seen), by silver.control and silver.balance."""
    root = conf.lake_root(settings)
    seen = delta.rows(root, silver.BALANCE, ["topic_id", "offset"]).to_pylist()
    if not seen:
        return {}, 0
    rows = delta.rows(root, silver.CONTROL, ["topic_id", "offset", "scope", "version", "payload"]).to_pylist()
    topic_id = topics.identify(settings, topics.EVENTS).topic_id
    versions = {
        row["scope"]: Version(row["version"], payload_digest(row["payload"]), row["payload"])
        for row in sorted(rows, key=lambda r: r["offset"])
        if row["topic_id"] == topic_id
    }
    return versions, max((row["offset"] + 1 for row in seen if row["topic_id"] == topic_id), default=0)


def in_force(settings: Settings, trusted: Trust) -> dict[str, Version]:
    """What is in force at the end of the log: silver's fold, then every valid control event after it."""
    versions, start = in_silver(settings)
    name = topics.topic_name(settings, topics.EVENTS)
    low, end = broker.watermarks(settings, name, PARTITION)
    schema = registry().latest("control")
    digests = Digests(keys.source(settings).keyring())
    for begin in range(max(start, low), end, _CHUNK):
        messages = broker.read_range(settings, name, PARTITION, begin, min(begin + _CHUNK, end))
        texts = Texts.of([m.value() or b"" for m in messages])
        ends = texts.start + texts.length
        ours = np.flatnonzero(schema_ids(texts.buffer, texts.start, ends) == schema.id)
        broker_ms = np.array([messages[at].timestamp()[1] for at in ours.tolist()], np.int64)
        found = decode(schema, texts.buffer.tobytes(), texts.start[ours], ends[ours], broker_ms, digests)
        for row, broken in enumerate(broken_rules(found)):
            if broken:
                continue
            event = control_event(found.batch, row)
            try:
                check(event, versions, trusted)
            except ControlRefused:
                continue
            versions[event.scope] = Version(event.version, event.digest, event.payload)
    return versions


def prepared(scope: str, payload: str, versions: dict[str, Version], author: Signer, approver: Signer) -> ControlEvent:
    """The next event of a scope, signed by both."""
    current = versions.get(scope, Version(0, "", ""))
    unsigned = ControlEvent(
        str(uuid.uuid4()), scope, current.version + 1, current.digest, payload, author.key_id, approver.key_id
    )
    return ControlEvent(
        **{
            **unsigned.__dict__,
            "author_signature": author.sign(unsigned.message),
            "approver_signature": approver.sign(unsigned.message),
        }
    )


def encoded(event: ControlEvent, received_ms: int) -> bytes:
    """The record of an event."""
    schema = registry().latest("control")
    texts = {
        name: Texts.of([getattr(event, name)])
        for name in (
            *("control_id", "scope", "previous_digest", "payload", "author", "approver"),
            *("author_signature", "approver_signature"),
        )
    }
    numbers = {"received_at": np.array([received_ms]), "version": np.array([event.version])}
    return slices(*schema.codec.encode(Batch(1, {**texts, **numbers}, {}), schema.prefix))[0]


def send(settings: Settings, event: ControlEvent, received_ms: int | None = None) -> int:
    """Write the event to the log, received now or at a given time; its offset once the broker has it."""
    placed: list[int] = []
    failed: list[str] = []

    def delivered(error: object, message: object) -> None:
        if error is None:
            placed.append(message.offset())  # type: ignore[attr-defined]
        else:
            failed.append(str(error))

    writer = broker.producer(settings)
    record = encoded(event, time.time_ns() // 1_000_000 if received_ms is None else received_ms)
    writer.produce(topics.topic_name(settings, topics.EVENTS), record, partition=PARTITION, on_delivery=delivered)
    writer.flush(settings.kafka.request_timeout_s)
    if not placed:
        raise BrokerUnavailable(
            f"The control event was not acknowledged: {', '.join(failed) or 'no answer'}.", "Try again."
        )
    return placed[0]


def activate(
    settings: Settings, scope: str, payload: str, author: Path, approver: Path, received_ms: int | None = None
) -> tuple[ControlEvent, int]:
    """Put a payload into force; the event and its offset. ControlRefused when engine and silver would refuse it.

    `received_ms` (default: now) is for history that is imported behind it: every accepted record moves the engine's
    clock, and labels take effect by that clock.
    """
    if received_ms is not None and received_ms > time.time_ns() // 1_000_000:
        raise ControlRefused("The event would be received in the future.", "Give a time that has passed, or none.")
    trusted = trust(conf.resolve(settings.keys.folder))
    versions = in_force(settings, trusted)
    event = prepared(scope, payload, versions, signer(author), signer(approver))
    check(event, versions, trusted)
    what = f"{event.scope} version {event.version}"
    told = {name: getattr(event, name) for name in ("control_id", "digest", "author", "approver")}
    trail.record(settings, "control.signed", what, told)
    offset = send(settings, event, received_ms)
    trail.record(settings, "control.activated", what, {**told, "offset": offset})
    return event, offset


def _payload(arguments: argparse.Namespace) -> str:
    if arguments.scope == "model":
        return orjson.dumps({"digest": arguments.digest}).decode()
    try:
        content = orjson.loads(Path(arguments.file).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ControlRefused(f"{arguments.file} cannot be read: {error}.", "It must be a JSON file.") from None
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def _run(arguments: argparse.Namespace) -> None:
    settings = conf.load(arguments.env)
    agreed(settings)
    folder = conf.resolve(settings.keys.folder)
    if arguments.action == "show":
        for scope, version in sorted(in_force(settings, trust(folder)).items()):
            print(f"{scope:10} version {version.version}  digest {version.digest}  {version.payload[:80]}")
        return
    author, approver = (
        Path(p) if p else folder / f"{role}.pem"
        for role, p in (("author", arguments.author_key), ("approver", arguments.approver_key))
    )
    payload = _payload(arguments)
    event, offset = activate(settings, arguments.scope, payload, author, approver, arguments.received_at)
    print(f"{event.scope} version {event.version} (payload {event.digest[:12]}) is on the log at offset {offset}")


def main(argv: Sequence[str]) -> int:
    """Activate a change or show what is in force."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions.control", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="what is in force at the end of the log")
    put = actions.add_parser("activate", help="write a signed control event")
    put.add_argument("--scope", required=True, choices=SCOPES)
    put.add_argument("--file", help="scope reference: the JSON file")
    put.add_argument("--digest", help="scope model: SHA-256 of the bundle's manifest, from `training.job`")
    put.add_argument("--author-key", help="PEM file of the author (default: author.pem of the key folder)")
    put.add_argument("--approver-key", help="PEM file of somebody else (default: approver.pem of the key folder)")
    put.add_argument(
        "--received-at",
        type=moment_ms,
        metavar="TIME",
        help="with its time zone, for history that is imported behind it: not after that begins (default: now)",
    )
    for action in (show, put):
        action.add_argument("--env")
    arguments = parser.parse_args(argv)
    if arguments.action == "activate" and not (arguments.digest if arguments.scope == "model" else arguments.file):
        put.error("--scope model needs --digest, --scope reference needs --file")
    return jobs.guarded(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
