"""Put a change into force: a control event on the log, signed by an author and by somebody else who approves.

    python -m decisions.control activate --scope reference --file conf/reference.json
    python -m decisions.control activate --scope model --digest SHA256
    python -m decisions.control activate --scope shadow --digest SHA256|none
    python -m decisions.control split --digest SHA256 --share-bp 1000, split --end
    python -m decisions.control rules check|activate FILE, rules show, rules uses [COLUMN]
    python -m decisions.control lists add --list block --kind card --reason "stolen" < cards.txt
    python -m decisions.control suppress add --rule ID --until TIME --reason "travels" < customers.txt
    python -m decisions.control thresholds --challenge 0.3 --review 0.5 --decline 0.8
    python -m decisions.control keys --token-version 2
    python -m decisions.control rollback --scope rules --to-version 3
    python -m decisions.control show

A model is staged before it is put into force: asked for, and waited for until the engine has said on the log that it is
ready (`activate --scope staging` does only that).

The event names the version and digest that it follows; engine and silver refuse it when something else came first, so
the tool looks at the log before it writes and waits until its own event can be read back.
"""

import argparse
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decisions import key_control, list_control, rule_control, split_control
from decisions.control_arguments import parsed
from decisions.model_control import WAIT_S, looked_at, waited_for
from expectations.control import BUNDLE_SCOPES, ControlEvent, InForce, Staged, Version, bundle_digest
from expectations.decoded import heard_at
from expectations.rules.changing import DELTA_SCOPES
from expectations.rules.rule_set import OUTCOMES, payload_of
from lakehouse import broker, delta, jobs, keys, topics, trail
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.codec import Batch, slices
from lakehouse.contracts import silver
from lakehouse.crypto import Digests, up_to
from lakehouse.errors import BrokerUnavailable, ControlRefused
from lakehouse.moments import now_ms
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.signing import Signer, Trust, signer, trust
from lakehouse.tables import Table
from lakehouse.texts import Texts

PARTITION = 0
NONE = "none"
"""In place of a digest: no model is in shadow any more."""
_CHUNK = 50_000


class Past(NamedTuple):
    """Everything that was put into force: the fold of it, and payload and offset of every version by scope."""

    now: InForce
    payloads: dict[tuple[str, int], str]
    offsets: dict[tuple[str, int], int]


def in_silver(settings: Settings) -> tuple[Past, int]:
    """(what was put into force, first offset that silver has not seen), by silver.control and silver.balance."""
    root = conf.lake_root(settings)
    now = InForce(first_token_version=keys.source(settings).keyring().token_version)
    seen = delta.rows(root, silver.BALANCE, ["topic_id", "offset"]).to_pylist()
    if not seen:
        return Past(now, {}, {}), 0

    def told(table: Table, *columns: str) -> list[dict[str, Any]]:
        found = delta.rows(root, table, ["topic_id", "offset", *columns]).sort_by("offset").to_pylist()
        return [row for row in found if row["topic_id"] == topic_id]

    topic_id = topics.identify(settings, topics.EVENTS).topic_id
    rows = told(silver.CONTROL, "scope", "version", "previous_digest", "payload")
    now.fold(rows, told(silver.STAGED, "model_digest", "refused"))
    payloads, offsets = ({(row["scope"], row["version"]): row[name] for row in rows} for name in ("payload", "offset"))
    past = Past(now, payloads, offsets)
    return past, max((row["offset"] + 1 for row in seen if row["topic_id"] == topic_id), default=0)


def past(settings: Settings, trusted: Trust) -> Past:
    """What was put into force up to the end of the log: silver's fold, then every valid control event after it."""
    found_before, start = in_silver(settings)
    name = topics.topic_name(settings, topics.EVENTS)
    low, end = broker.watermarks(settings, name, PARTITION)
    digests = Digests(keys.source(settings).keyring())
    for begin in range(max(start, low), end, _CHUNK):
        messages = broker.read_range(settings, name, PARTITION, begin, min(begin + _CHUNK, end))
        for offset, event in heard_at(messages, digests):
            if isinstance(event, Staged):
                found_before.now.hear(event)
                continue
            try:
                found_before.now.offer(event, trusted)
            except ControlRefused:
                continue
            found_before.payloads[event.scope, event.version] = event.payload
            found_before.offsets[event.scope, event.version] = offset
    return found_before


def in_force(settings: Settings, trusted: Trust) -> dict[str, Version]:
    """The version of every scope at the end of the log."""
    return past(settings, trusted).now.versions


def returned(before: Past, scope: str, version: int) -> str:
    """The payload of an earlier version; ControlRefused where there is none that can come back."""
    if scope in DELTA_SCOPES:
        raise ControlRefused(f"{scope} travel as changes.", "Take the entries back with add and remove.")
    if (scope, version) not in before.payloads:
        raise ControlRefused(f"There is no version {version} of {scope}.")
    return before.payloads[scope, version]


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
    record = encoded(event, now_ms() if received_ms is None else received_ms)
    writer.produce(topics.topic_name(settings, topics.EVENTS), record, partition=PARTITION, on_delivery=delivered)
    writer.flush(settings.kafka.request_timeout_s)
    if not placed:
        raise BrokerUnavailable(
            f"The control event was not acknowledged: {', '.join(failed) or 'no answer'}.", "Try again."
        )
    return placed[0]


def activate(
    settings: Settings,
    scope: str,
    payload: str,
    author: Path,
    approver: Path,
    received_ms: int | None = None,
    now: InForce | None = None,
) -> tuple[ControlEvent, int]:
    """Put a payload into force; the event and its offset. ControlRefused when engine and silver would refuse it.

    `received_ms` (default: now) is for history that is imported behind it: every accepted record moves the engine's
    clock, and labels take effect by that clock. `now` is what is in force at the end of the log, for who has just read
    it.
    """
    if now is None:
        now = past(settings, trust(conf.resolve(settings.keys.folder))).now
    event = prepared(scope, payload, now.versions, signer(author), signer(approver))
    return event, put(settings, event, now, received_ms)


def put(settings: Settings, event: ControlEvent, now: InForce, received_ms: int | None = None) -> int:
    """Write a signed event that follows what is in force; its offset. ControlRefused as `activate`."""
    if received_ms is not None and received_ms > now_ms():
        raise ControlRefused("The event would be received in the future.", "Give a time that has passed, or none.")
    trusted = trust(conf.resolve(settings.keys.folder))
    now.check(event, trusted)
    if event.scope == "keys":
        key_control.refuse_unready(settings, event.payload)
    what = f"{event.scope} version {event.version}"
    told = {name: getattr(event, name) for name in ("control_id", "digest", "author", "approver")}
    trail.record(settings, "control.signed", what, told)
    offset = send(settings, event, received_ms)
    if past(settings, trusted).payloads.get((event.scope, event.version)) != event.payload:
        raise ControlRefused(
            f"{what}, at offset {offset}, came too late: another version {event.version} was first.",
            "Look at what is in force now (python -m decisions.control show), and decide again.",
        )
    trail.record(settings, "control.activated", what, {**told, "offset": offset})
    if event.scope == "model" and now.split is not None:
        why: trail.Details = {"reason": f"{what} is in force", "offset": offset}
        trail.record(settings, split_control.OVER, now.split.digest, why)
    return offset


def put_model(
    settings: Settings,
    digest: str,
    author: Path,
    approver: Path,
    received_ms: int | None = None,
    here: bool = False,
    wait_s: float = WAIT_S,
    scope: str = "model",
) -> tuple[ControlEvent, int]:
    """Have a model staged, by the engine in office or `here`, then put it into force; the event and its offset.

    Scope `shadow` has it score without effect instead.
    """
    stage(settings, digest, author, approver, received_ms, here, wait_s)
    return activate(settings, scope, payload_of({"digest": digest}), author, approver, received_ms)


def put_split(
    settings: Settings,
    digest: str,
    share_bp: int,
    author: Path,
    approver: Path,
    received_ms: int | None = None,
    here: bool = False,
    wait_s: float = WAIT_S,
) -> tuple[ControlEvent, int]:
    """Have a challenger staged, then let it decide for a share of the customers; the event and its offset."""
    trusted = trust(conf.resolve(settings.keys.folder))
    split_control.begun(settings, past(settings, trusted).now, digest, share_bp)
    stage(settings, digest, author, approver, received_ms, here, wait_s)
    now = past(settings, trusted).now
    payload = split_control.begun(settings, now, digest, share_bp)
    return activate(settings, "split", payload, author, approver, received_ms, now)


def end_split(
    settings: Settings, author: Path, approver: Path, received_ms: int | None = None
) -> tuple[ControlEvent, int]:
    """Have the model in force decide everything again; the event and its offset. ControlRefused without one."""
    now = past(settings, trust(conf.resolve(settings.keys.folder))).now
    if now.split is None:
        raise ControlRefused("No split is on.", "python -m decisions.control show says what is in force.")
    return activate(settings, "split", split_control.ENDED, author, approver, received_ms, now)


def stage(
    settings: Settings, digest: str, author: Path, approver: Path, received_ms: int | None, here: bool, wait_s: float
) -> tuple[ControlEvent, int]:
    """Have a model staged; the event that asked for it and its offset. BundleRefused when it cannot be staged."""
    event, offset = activate(settings, "staging", payload_of({"digest": digest}), author, approver, received_ms)
    if here:
        looked_at(settings, digest, received_ms)
    else:
        waited_for(settings, digest, offset + 1, wait_s)
    return event, offset


def _change(arguments: argparse.Namespace, settings: Settings, before: Callable[[], Past]) -> tuple[str, str]:
    """(scope, payload) of what the command asks for."""
    action = arguments.action
    if action == "activate" and arguments.scope in BUNDLE_SCOPES:
        return arguments.scope, payload_of({"digest": None if arguments.digest == NONE else arguments.digest})
    if action == "activate":
        return arguments.scope, rule_control.file_payload(arguments.file)
    if action == "rules":
        return "rules", rule_control.file_payload(arguments.file)
    if action == "thresholds":
        return "thresholds", _thresholds(arguments)
    if action == "rollback":
        return arguments.scope, returned(before(), arguments.scope, arguments.to_version)
    if action == "keys":
        return "keys", payload_of({"token_version": arguments.token_version})
    tokens = up_to(keys.source(settings).keyring(), before().now.token_version)
    if action == "lists":
        return "lists", list_control.list_payload(arguments, tokens)
    return "suppressions", list_control.suppression_payload(arguments, tokens)


def _thresholds(arguments: argparse.Namespace) -> str:
    content: dict[str, object] = {"cuts": {name: getattr(arguments, name) for name in OUTCOMES[1:]}}
    share, limit = arguments.explore_share, arguments.explore_up_to_minor
    if (share is None) != (limit is None):
        raise ControlRefused("--explore-share and --explore-up-to-minor belong together.")
    if share is not None:
        content["exploration"] = {"share": share, "up_to_minor": limit}
    return payload_of(content)


def _shown(arguments: argparse.Namespace, before: Past) -> str:
    if arguments.action == "rules":
        return rule_control.run(arguments, before.now)
    if arguments.action in ("lists", "suppress"):
        return list_control.shown(before.now, "lists" if arguments.action == "lists" else "suppressions")
    lines = [
        f"{scope:10} version {version.version}  digest {version.digest}  {version.payload[:80]}"
        for scope, version in sorted(before.now.versions.items())
    ]
    return "\n".join(filter(None, [*lines, split_control.shown(before.now)]))


def _run(arguments: argparse.Namespace) -> None:
    settings = conf.load(arguments.env)
    what = getattr(arguments, "what", arguments.action)
    if what == "check":
        print(rule_control.checked(arguments.file))
        return
    agreed(settings)
    folder = conf.resolve(settings.keys.folder)
    if what in ("show", "uses"):
        print(_shown(arguments, past(settings, trust(folder))))
        return
    author, approver = (
        Path(p) if p else folder / f"{role}.pem"
        for role, p in (("author", arguments.author_key), ("approver", arguments.approver_key))
    )
    before = cache(lambda: past(settings, trust(folder)))
    signed = (author, approver, arguments.received_at)
    if what == "split":
        event, offset = _split(arguments, settings, signed)
        print(_told(event, offset))
        return
    scope, payload = _change(arguments, settings, before)
    digest = bundle_digest(payload) if scope in BUNDLE_SCOPES else None
    if digest is not None:
        staging = (*signed, arguments.stage_here, arguments.wait_s)
        event, offset = (
            stage(settings, digest, *staging) if scope == "staging" else put_model(settings, digest, *staging, scope)
        )
    else:
        event, offset = activate(settings, scope, payload, *signed, before().now)
    print(_told(event, offset))


def _split(
    arguments: argparse.Namespace, settings: Settings, signed: tuple[Path, Path, int | None]
) -> tuple[ControlEvent, int]:
    if arguments.end:
        return end_split(settings, *signed)
    if arguments.share_bp is None:
        raise ControlRefused("--digest and --share-bp belong together.")
    staging = (arguments.stage_here, arguments.wait_s)
    return put_split(settings, arguments.digest, arguments.share_bp, *signed, *staging)


def _told(event: ControlEvent, offset: int) -> str:
    return f"{event.scope} version {event.version} (payload {event.digest[:12]}) is on the log at offset {offset}"


def main(argv: Sequence[str]) -> int:
    """Activate a change or show what is in force."""
    arguments = parsed(argv, __doc__ or "")
    return jobs.guarded(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
