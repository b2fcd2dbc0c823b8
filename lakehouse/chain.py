"""A chain of signed entries as lines of text: how one is written, read back and held against its neighbours.

A line is canonical JSON: time, actor, action, subject, details, the digest of the entry before it, its own digest
(SHA-256 over all of that) and an Ed25519 signature of sequence and digest. That signature makes it a head: it vouches
for everything up to there, and a copy of it elsewhere tells of an entry that was cut off.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from lakehouse.signing import Signer, Trust

GENESIS = "0" * 64
"""What the first entry names as the digest before it."""
ROLE = "trail"
"""The role of keys that may sign heads."""
REPAIRED = "trail.repaired"
"""An entry behind a line that a crash tore; it tells length and digest of what lies there."""
HEADS_DIFFER = "trail.heads_differ"
"""An entry of a trail whose copied heads did not end where it ended."""


@dataclass(frozen=True)
class Head:
    """A signed statement that entry `sequence` has this digest."""

    sequence: int
    digest: str
    key: str
    signature: str

    @property
    def line(self) -> bytes:
        """The head as a line of its own, without its end."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    def verifies(self, trust: Trust) -> bool:
        """Whether a key with the role made it."""
        signature = base64.b64decode(self.signature)
        return trust.verifies(self.key, ROLE, _message(self.sequence, self.digest), signature)


@dataclass(frozen=True)
class Entry:
    """What happened: one line of the trail. `sequence` counts from 1, `time` is ISO 8601 in UTC."""

    sequence: int
    time: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    previous: str
    head: Head = field(compare=False)

    @property
    def line(self) -> bytes:
        """The entry as it is written, without the line's end."""
        return _line(_body(self), self.head)


@dataclass(frozen=True)
class Event:
    """What is to be written, before it has its place in the chain."""

    time: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]


def _message(sequence: int, digest: str) -> bytes:
    return orjson.dumps({"purpose": "fraudlake trail head", "sequence": sequence, "digest": digest})


def _body(entry: Entry) -> dict[str, Any]:
    names = ("sequence", "time", "actor", "action", "subject", "details", "previous")
    return {name: getattr(entry, name) for name in names}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _line(body: Mapping[str, Any], head: Head) -> bytes:
    seal = {"digest": head.digest, "key": head.key, "signature": head.signature}
    return orjson.dumps({**body, **seal}, option=orjson.OPT_SORT_KEYS)


def entry_after(last: Entry | None, event: Event, signer: Signer) -> Entry:
    """The event as the entry that follows `last`, signed."""
    sequence, previous = (1, GENESIS) if last is None else (last.sequence + 1, last.head.digest)
    body = {"sequence": sequence, **asdict(event), "previous": previous}
    digest = _digest(body)
    signature = base64.b64encode(signer.sign(_message(sequence, digest))).decode()
    return Entry(**body, head=Head(sequence, digest, signer.key_id, signature))


def _object(line: bytes, names: Sequence[str]) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and sorted(found) == sorted(names) else None


def entry_of(line: bytes) -> Entry | None:
    """The entry of a line; None when a byte of it is not as it was written. Its signature is not looked at."""
    names = ("sequence", "time", "actor", "action", "subject", "details", "previous")
    found = _object(line, (*names, "digest", "key", "signature"))
    if found is None or not _is_head(found) or not isinstance(found["details"], dict):
        return None
    head = Head(found["sequence"], found["digest"], found["key"], found["signature"])
    entry = Entry(**{name: found[name] for name in names}, head=head)
    return entry if _digest(_body(entry)) == head.digest and entry.line == line else None


def head_of(line: bytes) -> Head | None:
    """The head of a line; None when a byte of it is not as it was written. Its signature is not looked at."""
    found = _object(line, ("sequence", "digest", "key", "signature"))
    if found is None or not _is_head(found):
        return None
    head = Head(**found)
    return head if head.line == line else None


def _is_head(found: Mapping[str, Any]) -> bool:
    if not isinstance(found["sequence"], int) or not all(
        isinstance(found[name], str) for name in ("digest", "key", "signature")
    ):
        return False
    try:
        raw = base64.b64decode(found["signature"], validate=True)
    except ValueError:
        return False
    # The last character holds bits that decoding passes over: another one would give the same bytes.
    return len(raw) > 0 and base64.b64encode(raw).decode() == found["signature"]


def torn(raw: bytes) -> dict[str, Any]:
    """What an entry REPAIRED says of the bytes before it."""
    return {"torn_bytes": len(raw), "torn_sha256": hashlib.sha256(raw).hexdigest()}


@dataclass
class Report:
    """What was found: entries read, what is wrong and where, and what is worth knowing."""

    entries: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def checked(lines: Iterable[bytes], copied: Iterable[bytes], trust: Trust) -> Report:
    """The trail's lines, ends included, held against each other, their signatures and the copied heads.

    An edited, deleted, inserted or moved line is named by its number, a cut tail by the copied head that tells of it.
    """
    report, tail = Report(), _Tail()
    digests = _entries_checked(lines, trust, report, tail)
    told = _heads_checked(copied, digests, trust, report)
    end = max(digests, default=0)
    if tail.lines and (tail.lines[-1].endswith(b"\n") or told > end):
        report.problems.append(f"line {tail.number}: altered or inserted, it is no entry as it was written")
    elif tail.lines:
        report.notes.append(f"line {tail.number}: torn by a crash; the next entry will say so")
    if told > end:
        report.problems.append(f"the trail ends at entry {end}, a copied head tells of entry {told}: its tail was cut")
    return report


@dataclass
class _Tail:
    """Lines that are no entries, since the last one that is; the number of their first."""

    number: int = 0
    lines: list[bytes] = field(default_factory=list)


def _entries_checked(lines: Iterable[bytes], trust: Trust, report: Report, tail: _Tail) -> dict[int, str]:
    """The digests by sequence; what is behind the last entry stays in `tail`."""
    digests: dict[int, str] = {}
    last = Entry(0, "", "", "", "", {}, "", Head(0, GENESIS, "", ""))
    for number, line in enumerate(lines, 1):
        entry = entry_of(line.removesuffix(b"\n"))
        if entry is None:
            tail.number = tail.number if tail.lines else number
            tail.lines.append(line)
            continue
        report.entries += 1
        said = entry.action == REPAIRED
        explained = said and dict(entry.details) == torn(b"".join(tail.lines).removesuffix(b"\n"))
        altered = 0 if explained else len(tail.lines)
        if altered:
            report.problems.append(f"line {tail.number}: altered or inserted, it is no entry as it was written")
        elif tail.lines:
            report.notes.append(f"line {tail.number}: torn by a crash, as entry {entry.sequence} says")
        elif said:
            report.problems.append(f"line {number}: tells of a torn line before it that is not there")
        report.problems.extend(f"line {number}: {found}" for found in _wrong(entry, last, altered, trust))
        if entry.action == HEADS_DIFFER:
            report.notes.append(f"line {number}: the copied heads did not end where the trail ended")
        digests.setdefault(entry.sequence, entry.head.digest)
        last = entry
        tail.lines.clear()
    return digests


def _wrong(entry: Entry, last: Entry, altered: int, trust: Trust) -> Iterator[str]:
    if not entry.head.verifies(trust):
        yield f"the signature of entry {entry.sequence} by {entry.head.key} does not verify"
    follows = (entry.sequence, entry.previous) == (last.sequence + 1, last.head.digest)
    # Behind altered lines nothing fits; they were named already.
    if not follows and not (altered and entry.sequence == last.sequence + 1 + altered):
        yield f"entry {entry.sequence} does not follow entry {last.sequence}: deleted, inserted or moved"


def _heads_checked(copied: Iterable[bytes], digests: Mapping[int, str], trust: Trust, report: Report) -> int:
    """The highest sequence that a copied head tells of."""
    end = max(digests, default=0)
    newest, told, strange = 0, 0, list[bytes]()
    for number, line in enumerate(copied, 1):
        head = head_of(line.removesuffix(b"\n"))
        if head is None:
            strange.append(line)
            continue
        # A crash may tear a copy; the whole one follows.
        if not all(head.line.startswith(piece.removesuffix(b"\n")) for piece in strange):
            report.problems.append(f"copied heads, line {number - 1}: altered or inserted")
        strange = []
        if not head.verifies(trust):
            report.problems.append(f"copied heads, line {number}: the signature by {head.key} does not verify")
            continue
        newest, told = head.sequence, max(told, head.sequence)
        if head.sequence <= end and digests.get(head.sequence) != head.digest:
            report.problems.append(f"entry {head.sequence} is not the one of its copied head (line {number})")
    if strange and strange[-1].endswith(b"\n"):
        report.problems.append("copied heads, last line: altered or inserted")
    if newest < end - 1:
        report.problems.append(
            f"the copied heads end at entry {newest}, the trail at {end}: a tail that was cut behind it would not show"
        )
    return told
