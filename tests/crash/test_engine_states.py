"""An engine whose snapshots or topic were damaged decides every payment once, or refuses and says what to do."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from decisions import control
from decisions.engine import Engine
from decisions.intake import Message
from decisions.job import Process
from features import snapshot
from features.store import Place, new
from lakehouse import broker as log
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.errors import RangeMissing, SnapshotRefused, TopicReplaced
from lakehouse.settings import Settings
from tests.conftest import NewSettings
from tests.crash.conftest import activate_reference, events
from tests.crash.table import noted, outcome
from tests.decisions import models
from tests.integration import deciding
from tests.silver.conftest import Sent, produce

OURS = "by source position"
PART = 60


@dataclass
class Decided:
    """An engine's world: some of its records are on the log, more are to come."""

    settings: Settings
    values: list[bytes]
    sent: int = 0

    @property
    def folder(self) -> Path:
        """Where the engine's snapshots lie."""
        return conf.resolve(self.settings.engine.state_folder)

    def go_on(self) -> None:
        """More records come; an engine starts, decides them and ends in peace."""
        more = self.values[self.sent : self.sent + PART]
        produce(self.settings, topics.EVENTS, [Sent(value) for value in more])
        self.sent += len(more)
        self.decide()

    def decide(self, snapshots: bool = True) -> None:
        """An engine decides what is there; without `snapshots` it is killed before it leaves one."""
        process = Process(self.settings)
        end = self.end(topics.EVENTS)
        try:
            process.take_office()
            while process.engine.state.place.next_offset < end:
                process.once()
            process.office.writer.flush()
            if snapshots:
                process._remember_place()
                process._keeper.save_now(process.engine.state)
        finally:
            process.close()

    def end(self, topic: str) -> int:
        """The offset after the last record of a topic."""
        return log.watermarks(self.settings, topics.topic_name(self.settings, topic), 0)[1]

    def snapshots(self) -> list[Path]:
        """The newest first."""
        return snapshot.newest([self.folder])

    def offsets(self) -> list[int]:
        """Source offsets of the decisions that count for a reader."""
        return sorted(deciding.counted(self.settings))


@pytest.fixture(scope="module")
def model(state_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A signed model: its store and digest."""
    store = tmp_path_factory.mktemp("models")
    return store, models.stored(store, tmp_path_factory.mktemp("scratch"), state_folder / "keys")


@pytest.fixture
def world(broker: str, new_settings: NewSettings, tmp_path: Path, model: tuple[Path, str]) -> Decided:
    """Two lives of an engine, each with its snapshot."""
    settings = new_settings(tmp_path)
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"store": model[0]})})
    topics.ensure(settings)
    activate_reference(settings)
    folder = conf.resolve(settings.keys.folder)
    long_ago = int(time.time() * 1000) - 10 * 86_400_000
    control.put_model(settings, model[1], folder / "author.pem", folder / "approver.pem", long_ago, here=True)
    made = Decided(settings, events(settings))
    made.go_on()
    made.go_on()
    assert len(made.snapshots()) == 2
    return made


def _expected(world: Decided) -> list[int]:
    """The source offsets that an engine decides to which nothing ever happened."""
    settings = world.settings
    identity = topics.identify(settings, topics.EVENTS)
    engine = Engine.of(settings, new(settings, Place(identity.topic_id, 0, 0)))
    records = log.read_range(settings, identity.name, 0, 0, world.end(topics.EVENTS))
    bodies = engine.decide([Message(m.offset(), m.timestamp()[1], m.value() or b"") for m in records])
    return sorted(offset for body in bodies for offset in body.offset.tolist())


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


STATES = {
    "newest snapshot missing": lambda world: world.snapshots()[0].unlink(),
    "newest snapshot torn": lambda world: _tear(world.snapshots()[0]),
    "newest snapshot empty": lambda world: world.snapshots()[0].write_bytes(b""),
    "all snapshots missing": lambda world: shutil.rmtree(world.folder),
    "half of a snapshot under its working name": lambda world: (
        world.folder / "00000000000000009999.7.new"
    ).write_bytes(b"FRAUDLK2"),
    "killed after its decisions, before their snapshot": lambda world: world.decide(snapshots=False),
}


@pytest.mark.parametrize("state", STATES)
def test_every_payment_is_decided_once(world: Decided, state: str) -> None:
    if "before their snapshot" in state:
        produce(world.settings, topics.EVENTS, [Sent(v) for v in world.values[world.sent : world.sent + PART]])
        world.sent += PART
    STATES[state](world)
    world.go_on()
    found = outcome(world.offsets(), _expected(world))
    assert noted("engine", state, OURS, found).safe
    assert found.lost == 0


def test_with_no_whole_snapshot_it_refuses_and_starts_when_they_are_deleted(world: Decided) -> None:
    for path in world.snapshots():
        _tear(path)
    with pytest.raises(SnapshotRefused, match=r"is torn.*Delete it: the one before it and the log"):
        world.go_on()
    for path in world.snapshots():
        path.unlink()
    world.go_on()
    found = outcome(world.offsets(), _expected(world), "SnapshotRefused", True)
    assert noted("engine", "all snapshots torn", OURS, found).safe


def _replace(settings: Settings, topic: str) -> None:
    name = topics.topic_name(settings, topic)
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    client.delete_topics([name])[name].result()
    while name in client.list_topics(timeout=5).topics:
        time.sleep(0.05)
    topics.ensure(settings)


def test_a_topic_of_decisions_that_was_made_again_is_refused_until_somebody_says_so(world: Decided) -> None:
    _replace(world.settings, topics.DECISIONS)
    with pytest.raises(
        TopicReplaced, match=r"the engine's snapshot was reading .*start a new lake root and engine state"
    ):
        world.go_on()
    assert world.end(topics.DECISIONS) == 0
    shutil.rmtree(world.folder)
    world.decide()
    found = outcome(world.offsets(), _expected(world), "TopicReplaced", True)
    assert noted("engine", "topic of decisions made again", OURS, found).safe


def test_a_topic_of_events_that_was_made_again_is_refused(world: Decided) -> None:
    _replace(world.settings, topics.EVENTS)
    with pytest.raises(SnapshotRefused, match=r"is of topic id .*start new state and snapshot folders"):
        Process(world.settings)


def test_a_topic_of_decisions_that_lost_its_end_is_refused(world: Decided) -> None:
    newest = world.snapshots()[0]
    found = snapshot.read(newest)
    meta = {**found.meta, "extra": {"decisions": {**found.meta["extra"]["decisions"], "since": 10_000}}}
    snapshot.write(newest, meta, found.arrays)
    before = world.end(topics.DECISIONS)
    with pytest.raises(
        RangeMissing, match=r"ends at offset \d+; the snapshot was made when it ended at 10000\. Restore"
    ):
        Process(world.settings).take_office()
    assert world.end(topics.DECISIONS) == before
