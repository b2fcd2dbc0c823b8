"""A whole state as a snapshot: features, admission and what is in force, up to an exclusive position."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import orjson

from expectations.admission import Admission, horizons_ms
from expectations.control import InForce, Version
from features import snapshot
from features.catalogue import feature_set_hash
from features.flow import Flow
from features.state import Spec
from features.waiting import WaitingRoom
from lakehouse.errors import SnapshotRefused
from lakehouse.keys import source
from lakehouse.settings import Settings, resolve
from lakehouse.signing import trust

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Place:
    """Where a state stands: just before `next_offset` of a partition of a topic."""

    topic_id: str
    partition: int
    next_offset: int


@dataclass
class State:
    """Everything that the next decision depends on."""

    place: Place
    flow: Flow
    admission: Admission
    extra: dict[str, Any]
    """What else the writer needs back; the engine keeps its place on topic `decisions` here."""
    token_version: int
    """Key version of the tokens by which the state knows people and things."""


def spec_of(settings: Settings) -> Spec:
    """The settings that change numbers."""
    features = settings.features
    return Spec(features.label_delay_d, features.record_retention_d, settings.engine.max_keys_per_entity)


def spec_hash(spec: Spec) -> str:
    """SHA-256 (hex) of the feature set and the settings that change its numbers."""
    content = [feature_set_hash(), spec.label_delay_d, spec.record_retention_d]
    return hashlib.sha256(orjson.dumps(content)).hexdigest()


def new(settings: Settings, place: Place) -> State:
    """The state before the first record."""
    first = source(settings).keyring().token_version
    in_force = InForce(first_token_version=first)
    admission = Admission(horizons_ms(settings), trust(resolve(settings.keys.folder)), in_force)
    return State(place, Flow(spec_of(settings)), admission, {}, first)


def check_tokens(state: State) -> None:
    """SnapshotRefused where people and things have other tokens from here on than the state knows them by."""
    wanted = state.admission.in_force.token_version
    if state.token_version != wanted:
        raise SnapshotRefused(
            f"The state at offset {state.place.next_offset} has tokens of version {state.token_version}; from there on "
            f"the log has version {wanted}.",
            "Make a state behind that position: python -m silver.job --available-now, python -m silver.tokens prepare "
            f"--to {wanted}, python -m features.job --available-now; then start again.",
        )


def saved(state: State) -> tuple[dict[str, Any], Arrays]:
    """(meta, arrays) of a snapshot of the state."""
    arrays: Arrays = {"admission/seen": state.admission.seen}
    arrays.update(snapshot.prefixed(state.flow.waiting.saved(), "waiting"))
    for name, one in state.flow.states.items():
        arrays.update(snapshot.prefixed(one.saved(), name))
    versions = {s: [v.version, v.digest, v.payload] for s, v in state.admission.in_force.versions.items()}
    meta = {
        "spec": spec_hash(state.flow.spec),
        "topic_id": state.place.topic_id,
        "partition": state.place.partition,
        "next_offset": state.place.next_offset,
        "clock_ms": state.admission.clock,
        "held": state.admission.held,
        "in_force": versions,
        "token_version": state.token_version,
        "entries": state.admission.in_force.saved_entries(),
        "staged": state.admission.in_force.staged,
        "extra": state.extra,
    }
    return meta, arrays


def check(path: Path, meta: Mapping[str, Any], settings: Settings, topic_id: str) -> None:
    """SnapshotRefused when the snapshot is of another feature set, setting or topic."""
    if meta["spec"] != spec_hash(spec_of(settings)):
        raise SnapshotRefused(
            f"The snapshot {path.name} was made with another feature set, label delay or retention.",
            "Make one with today's: python -m features.job --available-now",
        )
    if meta["topic_id"] != topic_id:
        raise SnapshotRefused(
            f"The snapshot {path.name} is of topic id {meta['topic_id']}; the topic now has id {topic_id}.",
            "The topic was replaced: start new state and snapshot folders for it.",
        )


def load(path: Path, settings: Settings, topic_id: str) -> State:
    """The state that a snapshot holds; SnapshotRefused when it does not fit, or is of other tokens than it needs."""
    found = snapshot.read(path)
    check(path, found.meta, settings, topic_id)
    state = new(settings, Place(topic_id, found.meta["partition"], found.meta["next_offset"]))
    for name, one in state.flow.states.items():
        one.load(snapshot.part(found.arrays, name))
    state.flow.waiting = WaitingRoom.loaded(snapshot.part(found.arrays, "waiting"))
    state.admission.seen = found.arrays["admission/seen"].copy()
    state.admission.clock, state.admission.held = found.meta["clock_ms"], found.meta["held"]
    versions = {scope: Version(*version) for scope, version in found.meta["in_force"].items()}
    state.admission.in_force.restore(versions, found.meta["entries"], found.meta["staged"])
    state.extra = found.meta["extra"]
    state.token_version = found.meta["token_version"]
    check_tokens(state)
    return state
