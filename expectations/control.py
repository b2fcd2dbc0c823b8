"""What is in force: a chain of signed versions per scope, folded from the control events of the log."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from expectations.reference import Reference
from expectations.rules import shapes
from expectations.rules.changing import DELTA_SCOPES, Entries, check_delta
from expectations.rules.rule_set import RuleSet
from expectations.rules.thresholds import Exploration, cuts_of, exploration_of
from expectations.split import Split, split_of
from lakehouse.errors import ControlRefused
from lakehouse.signing import Trust

MAX_TOKEN_VERSION = 999_999_999
"""Longer ones do not fit into a token."""
SCOPES = ("keys", "lists", "model", "reference", "rules", "shadow", "split", "staging", "suppressions", "thresholds")
"""`staging` names the model that is to be made ready; once a `staged` record said so, `model` puts it into force,
`shadow` has it score everything without effect, and `split` has it decide for a share of the customers."""
BUNDLE_SCOPES = ("model", "shadow", "staging")
"""Their payload names a bundle and nothing else."""
_NEEDS_STAGED = ("model", "shadow", "split")


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


class Staged(NamedTuple):
    """What a `staged` record says of a model."""

    digest: str
    refused: str | None
    """Why it may not be activated."""


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
    exploration: Exploration | None = None
    """Of scope `thresholds`; None where nothing is explored."""
    newest_split: Split | None = None
    """Of scope `split`, whether or not its model is still in force."""
    entries: dict[str, Entries] = field(default_factory=_nothing)
    """Lists and suppressions, folded from their deltas."""
    first_token_version: int = 1
    """Key version of the tokens of records before the first event of scope `keys`; the keyring says which."""
    staged: dict[str, bool | None] = field(default_factory=dict)
    """Digests of models: what the newest `staged` record said since they were asked for; None: nothing yet."""

    @property
    def digest(self) -> str:
        """SHA-256 over scope, version and digest of everything in force, hex; a model in shadow changes no decision."""
        listed = [[scope, v.version, v.digest] for scope, v in sorted(self.versions.items()) if scope != "shadow"]
        return hashlib.sha256(orjson.dumps(listed)).hexdigest()

    @property
    def model_digest(self) -> str | None:
        """Digest of the active bundle's manifest; None before the first activation."""
        active = self.versions.get("model")
        return None if active is None else bundle_digest(active.payload)

    @property
    def shadow_digest(self) -> str | None:
        """Digest of the challenger that scores without effect; None where there is none."""
        active = self.versions.get("shadow")
        return None if active is None else bundle_digest(active.payload)

    @property
    def split(self) -> Split | None:
        """The traffic split; None where there is none, and behind another version of scope `model` than its own."""
        found, active = self.newest_split, self.versions.get("model")
        return None if found is None or active is None or found.model_version != active.version else found

    @property
    def asked(self) -> list[str]:
        """Digests of models that are to be staged and of which nothing was said yet."""
        return [digest for digest, ok in self.staged.items() if ok is None]

    def check(self, event: ControlEvent, trust: Trust) -> None:
        """ControlRefused unless the event may take force now."""
        _check(event, self, trust)
        digest = bundle_digest(event.payload) if event.scope in _NEEDS_STAGED else None
        if digest is not None and not self.staged.get(digest):
            how = "split" if event.scope == "split" else f"activate --scope {event.scope}"
            raise ControlRefused(
                f"model {digest[:12]} is not staged: no `staged` record before this one says that it is ready.",
                f"python -m decisions.control {how} --digest {digest} stages it first.",
            )

    @property
    def token_version(self) -> int:
        """Key version of the tokens of the records behind."""
        active = self.versions.get("keys")
        return self.first_token_version if active is None else token_version_of(active.payload)

    def offer(self, event: ControlEvent, trust: Trust) -> None:
        """Put an event into force; ControlRefused says why not, and then nothing changes."""
        self.check(event, trust)
        self._put(event.scope, Version(event.version, event.digest, event.payload))

    def hear(self, said: Staged) -> None:
        """Take over what an accepted `staged` record says."""
        self.staged[said.digest] = said.refused is None

    def _put(self, scope: str, version: Version) -> None:
        if scope in DELTA_SCOPES:
            self.entries[scope].take(version.payload)
        elif scope == "staging":
            self.staged[_named(version.payload)] = None
        self._hold(scope, version)

    def _hold(self, scope: str, version: Version) -> None:
        if scope == "reference":
            self.reference = Reference.of(version.version, version.payload)
        elif scope == "rules":
            self.rules = RuleSet.of(version.payload)
        elif scope == "thresholds":
            self.cuts, self.exploration = cuts_of(version.payload), exploration_of(version.payload)
        elif scope == "split":
            self.newest_split = split_of(version.payload)
        self.versions[scope] = version

    def forget(self, clock_ms: int) -> None:
        """Drop entries that have expired: the clock never goes back, so no decision depends on when."""
        for entries in self.entries.values():
            entries.forget(clock_ms)

    def saved_entries(self) -> dict[str, list[list[Any]]]:
        """The folded deltas, for a snapshot."""
        return {scope: entries.saved() for scope, entries in self.entries.items()}

    def restore(
        self,
        versions: Mapping[str, Version],
        entries: Mapping[str, list[list[Any]]],
        staged: Mapping[str, bool | None],
    ) -> None:
        """Take over what a snapshot says is in force."""
        self.staged = dict(staged)
        self.versions, self.reference, self.rules, self.cuts, self.entries = {}, None, RuleSet(), None, _nothing()
        self.exploration = self.newest_split = None
        for scope, version in versions.items():
            self._hold(scope, version)
        for scope, saved in entries.items():
            self.entries[scope].restore(saved)

    def fold(self, rows: Iterable[Mapping[str, Any]], staged: Iterable[Mapping[str, Any]]) -> None:
        """Take over rows of silver.control and silver.staged, both in log order, with the columns that it names."""
        newest: dict[str, Version] = {}
        words: list[tuple[int, str, bool | None]] = [
            (row["offset"], row["model_digest"], row["refused"] is None) for row in staged
        ]
        for row in rows:
            scope, payload = row["scope"], row["payload"]
            version = Version(row["version"], version_digest(scope, row["previous_digest"], payload), payload)
            if scope in DELTA_SCOPES:
                self._put(scope, version)
            else:
                newest[scope] = version
            if scope == "staging":
                words.append((row["offset"], _named(payload), None))
        for scope, version in newest.items():
            self._hold(scope, version)
        for _, digest, ok in sorted(words, key=lambda word: word[0]):
            self.staged[digest] = ok


def bundle_digest(payload: str) -> str | None:
    """The digest of the bundle that a payload of such a scope names; None ends a shadow or a split."""
    digest = orjson.loads(payload)["digest"]
    return None if digest is None else str(digest)


def _named(payload: str) -> str:
    digest = bundle_digest(payload)
    assert digest is not None, "only a shadow ends"
    return digest


def _check(event: ControlEvent, in_force: InForce, trust: Trust) -> None:
    """ControlRefused unless the event is the next of its scope, valid, signed by two people with the right roles."""
    if event.scope not in SCOPES:
        raise ControlRefused(f"There is no scope '{event.scope}'.")
    current = in_force.versions.get(event.scope, Version(0, "", ""))
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
        exploration_of(event.payload)
    elif event.scope == "split":
        _check_split(split_of(event.payload), in_force)
    elif event.scope in DELTA_SCOPES:
        check_delta(event.scope, event.payload)
    elif event.scope == "keys":
        wanted, now = token_version_of(event.payload), in_force.token_version
        if wanted != now + 1:
            raise ControlRefused(f"Tokens are of version {now} now; the next one is {now + 1}, not {wanted}.")
    else:
        _check_model(event.scope, event.payload)


def _check_split(split: Split | None, in_force: InForce) -> None:
    if split is None:
        return
    serving = in_force.versions.get("model")
    if serving is None or split.model_version != serving.version:
        found = "no model" if serving is None else f"version {serving.version}"
        raise ControlRefused(
            f"The split is beside version {split.model_version} of scope model; {found} is in force.",
            "Prepare it again on top of what is in force.",
        )
    if split.digest == in_force.model_digest:
        raise ControlRefused(f"Model {split.digest[:12]} is in force.", "A challenger is another model.")


def token_version_of(payload: str) -> int:
    """The version that a payload of scope `keys` puts in force; ControlRefused where it names none."""
    version = shapes.loaded("keys", payload, ("token_version",))["token_version"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_TOKEN_VERSION:
        raise ControlRefused("The keys payload must name a version: {'token_version': 2}.")
    return version


def _check_model(scope: str, payload: str) -> None:
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise ControlRefused(f"The {scope} payload is not JSON.") from None
    digest = content.get("digest") if isinstance(content, dict) else None
    if scope == "shadow" and content == {"digest": None}:
        return
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ControlRefused(f"The {scope} payload must name the bundle: {{'digest': SHA-256 in hex}}.")
