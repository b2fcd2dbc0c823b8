"""What is in force: a chain of signed versions per scope, folded from the control events of the log."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from expectations.reference import Reference
from lakehouse.errors import ControlRefused
from lakehouse.signing import Trust

SCOPES = ("model", "reference")


def payload_digest(payload: str) -> str:
    """SHA-256 of a payload's text, hex."""
    return hashlib.sha256(payload.encode()).hexdigest()


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
        """SHA-256 of the payload, hex: what the next version must name."""
        return payload_digest(self.payload)

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


@dataclass
class InForce:
    """Everything in force; it changes only through `offer`."""

    versions: dict[str, Version] = field(default_factory=dict)
    reference: Reference | None = None

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
        version = Version(event.version, event.digest, event.payload)
        if event.scope == "reference":
            self.reference = Reference.of(event.version, event.payload)
        self.versions[event.scope] = version

    def restore(self, versions: Mapping[str, Version]) -> None:
        """Take over what a snapshot or silver.control says is in force."""
        self.versions = dict(versions)
        active = self.versions.get("reference")
        self.reference = None if active is None else Reference.of(active.version, active.payload)


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
