"""What is in force: a chain of signed versions per scope, folded from the control events of the log."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from expectations.reference import Reference
from expectations.rules.changing import DELTA_SCOPES, Entries, check_delta
from expectations.rules.rule_set import RuleSet
from expectations.rules.thresholds import cuts_of
from lakehouse.errors import ControlRefused
from lakehouse.signing import Trust

SCOPES = ("lists", "model", "reference", "rules", "suppressions", "thresholds")


def payload_digest(payload: str) -> str:
    """SHA-256 of a payload's text, hex."""
    return hashlib.sha256(payload.encode()).hexdigest()


def version_digest(scope: str, previous_digest: str, payload: str) -> str:
    """The digest of a version, hex: of its payload, and where payloads are deltas of all payloads before it too."""
    return payload_digest(f"{previous_digest}\n{payload}" if scope in DELTA_SCOPES else payload)


@dataclass(frozen=True)
class ControlEvent:
    """One control record of the log."""

    control_id: str
    scope: str
    version: int
    previous_digest: str
    payload: str
    author: str
    approver: str
    author_signature: bytes = b""
    approver_signature: bytes = b""

    @property
    def digest(self) -> str:
        """What the next version must name."""
        return version_digest(self.scope, self.previous_digest, self.payload)

    @property
    def message(self) -> bytes:
        """What author and approver sign: everything but the signatures, as canonical JSON."""
        return orjson.dumps(
            {
                "control_id": self.control_id,
                "scope": self.scope,
                "version": self.version,
                "previous_digest": self.previous_digest,
                "payload": self.payload,
                "author": self.author,
                "approver": self.approver,
            },
            option=orjson.OPT_SORT_KEYS,
        )


@dataclass(frozen=True)
class Version:
    """What is in force of a scope."""

    version: int
    digest: str
    payload: str


def _nothing() -> dict[str, Entries]:
    return {scope: Entries(scope) for scope in DELTA_SCOPES}


@dataclass
class InForce:
    """Everything in force; it changes only through `offer`."""

    versions: dict[str, Version] = field(default_factory=dict)
    reference: Reference | None = None
    rules: RuleSet = field(default_factory=RuleSet)
    cuts: Mapping[str, float] | None = None
    """Of scope `thresholds`; None where the model's own count."""
    entries: dict[str, Entries] = field(default_factory=_nothing)
    """Lists and suppressions, folded from their deltas."""

    @property
    def digest(self) -> str:
        """SHA-256 over scope, version and digest of everything in force, hex."""
        listed = [[scope, v.version, v.digest] for scope, v in sorted(self.versions.items())]
        return hashlib.sha256(orjson.dumps(listed)).hexdigest()

    @property
    def model_digest(self) -> str | None:
        """Digest of the active bundle's manifest; None before the first activation."""
        active = self.versions.get("model")
        return None if active is None else str(orjson.loads(active.payload)["digest"])

    def offer(self, event: ControlEvent, trust: Trust) -> None:
        """Put an event into force; ControlRefused says why not, and then nothing changes."""
        check(event, self.versions, trust)
        self._put(event.scope, Version(event.version, event.digest, event.payload))

    def _put(self, scope: str, version: Version) -> None:
        if scope in DELTA_SCOPES:
            self.entries[scope].take(version.payload)
        self._hold(scope, version)

    def _hold(self, scope: str, version: Version) -> None:
        if scope == "reference":
            self.reference = Reference.of(version.version, version.payload)
        elif scope == "rules":
            self.rules = RuleSet.of(version.payload)
        elif scope == "thresholds":
            self.cuts = cuts_of(version.payload)
        self.versions[scope] = version

    def forget(self, clock_ms: int) -> None:
        """Drop entries that have expired: the clock never goes back, so no decision depends on when."""
        for entries in self.entries.values():
            entries.forget(clock_ms)

    def saved_entries(self) -> dict[str, list[list[Any]]]:
        """The folded deltas, for a snapshot."""
        return {scope: entries.saved() for scope, entries in self.entries.items()}

    def restore(self, versions: Mapping[str, Version], entries: Mapping[str, list[list[Any]]]) -> None:
        """Take over what a snapshot says is in force."""
        self.versions, self.reference, self.rules, self.cuts, self.entries = {}, None, RuleSet(), None, _nothing()
        for scope, version in versions.items():
            self._hold(scope, version)
        for scope, saved in entries.items():
            self.entries[scope].restore(saved)

    def fold(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over rows of silver.control in log order: scope, version, previous_digest, payload."""
        newest: dict[str, Version] = {}
        for row in rows:
            scope, payload = row["scope"], row["payload"]
            version = Version(row["version"], version_digest(scope, row["previous_digest"], payload), payload)
            if scope in DELTA_SCOPES:
                self._put(scope, version)
            else:
                newest[scope] = version
        for scope, version in newest.items():
            self._hold(scope, version)


def check(event: ControlEvent, versions: Mapping[str, Version], trust: Trust) -> None:
    """ControlRefused unless the event is the next of its scope, valid, signed by two people with the right roles."""
    if event.scope not in SCOPES:
        raise ControlRefused(f"There is no scope '{event.scope}'.")
    current = versions.get(event.scope, Version(0, "", ""))
    if (event.version, event.previous_digest) != (current.version + 1, current.digest):
        raise ControlRefused(
            f"{event.scope} version {event.version} does not follow version {current.version}.",
            "Prepare it again on top of what is in force.",
        )
    if event.author == event.approver:
        raise ControlRefused("The author approved their own change.", "Another person has to sign.")
    for key_id, role, signature in (
        (event.author, "author", event.author_signature),
        (event.approver, "approver", event.approver_signature),
    ):
        if not trust.verifies(key_id, role, event.message, signature):
            raise ControlRefused(f"The {role}'s signature by {key_id} does not verify.")
    if event.scope == "reference":
        Reference.of(event.version, event.payload)
    elif event.scope == "rules":
        RuleSet.of(event.payload).check_follows(RuleSet.of(current.payload) if current.version else RuleSet())
    elif event.scope == "thresholds":
        cuts_of(event.payload)
    elif event.scope in DELTA_SCOPES:
        check_delta(event.scope, event.payload)
    else:
        _check_model(event.payload)


def _check_model(payload: str) -> None:
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise ControlRefused("The model payload is not JSON.") from None
    digest = content.get("digest") if isinstance(content, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ControlRefused("The model payload must name the bundle: {'digest': SHA-256 in hex}.")
