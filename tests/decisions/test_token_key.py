"""A token key is changed in the middle of a world: the tokens are others, features, lists and decisions are not."""

import threading
import time
from dataclasses import dataclass, replace

import logs
import models
import pytest
from delta.tables import DeltaTable
from people import People, chosen

import bronze.job
import features.job
import silver.job
from decisions import control
from decisions.exploration import key_of
from decisions.intake import Message
from decisions.job import Process
from decisions.keeping import folders
from decisions.past import Past
from decisions.shelf import Shelf
from decisions.stages import Stages
from expectations.rules.rule_set import payload_of
from features import snapshot, store
from features.history import History
from features.parity import Vectors, compared, logged
from features.renaming import renaming
from lakehouse import broker as kafka
from lakehouse import delta, keys, rotation, topics, trail
from lakehouse.contracts import gold
from lakehouse.contracts import silver as tables
from lakehouse.crypto import Tokens, entity_key_of_token
from lakehouse.data_keys import DataKeys
from lakehouse.errors import ControlRefused, KeyDestroyed, KeysMissing, RangeMissing, SnapshotRefused
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from lakehouse.spans import Span
from silver import erasure
from silver.personal import opened
from silver.tokens import MapRefused, prepared
from tests.lakehouse.records import raw
from training.interval import interval
from training.policy import Changes, Judge

LONG_AGO = logs.END_MS - 10**9
TO_2 = '{"token_version":2}'


def erased(number, customer):
    return raw("erasure", erasure_id=f"e{number}", customer_id=customer, received_at=LONG_AGO)


@dataclass(frozen=True)
class World:
    """The world after the migration, and what was seen on the way."""

    settings: Settings
    context: Context
    people: People
    messages: list
    switch: int
    refused: dict
    """By what was tried too early: what was said."""
    prepared: list
    """Names that each preparation found."""
    restart: int
    """Where the engine began again."""
    twin: dict
    """Offset -> decision of an engine over the same log without the switch."""
    before: list
    """Rows of silver.payments when they were first written."""

    @property
    def root(self):
        return self.context.root

    def token(self, customer, version):
        ring = keys.source(self.settings).keyring()
        return Tokens(ring, version).texts("customer", [customer.encode()])[0]


def produce(settings, values):
    writer = kafka.producer(settings, linger_ms=5)
    for value in values:
        writer.produce(topics.topic_name(settings, topics.EVENTS), value, partition=0)
    assert writer.flush(20) == 0


def land(context):
    bronze.job.run(context)
    silver.job.run(context)


def run_engine(settings, end):
    """Run an engine until it stands at an offset; where it began."""
    process = Process(settings)
    begun = process.engine.state.place.next_offset

    def watch():
        while process.engine.state.place.next_offset < end:
            time.sleep(0.05)
        process.stop(0, None)

    threading.Thread(target=watch, daemon=True).start()
    process.run()
    return begun


def said(error, work):
    with pytest.raises(error) as found:
        work()
    return str(found.value)


@pytest.fixture(scope="module")
def world(broker, new_settings, context, tmp_path_factory):
    folder = tmp_path_factory.mktemp("token-key")
    settings = new_settings(folder)
    keys.create(folder / "keys")
    settings = settings.model_copy(
        update={
            "keys": settings.keys.model_copy(update={"folder": folder / "keys"}),
            "trail": settings.trail.model_copy(update={"folder": folder / "trail", "heads_folder": folder / "heads"}),
        }
    )
    now, key_folder = context(settings), folder / "keys"
    author, approver = key_folder / "author.pem", key_folder / "approver.pem"
    topics.ensure(settings)
    values = logs.payments(span=2, per_day=230, faults=1)
    half = len(values) // 2
    people, last_gone = chosen(values, half)
    versions = {}
    digest = models.stored(settings.models.store, folder / "scratch", key_folder)
    card = Tokens(keys.source(settings).keyring()).texts("card", [people.blocked.encode()])[0]
    entry = {"list": "block", "kind": "card", "token": card, "reason": "stolen", "expires_at": None}
    story = [(half // 3, people.returning), (last_gone + 1, people.gone)]
    first, done = [], 0
    for number, (at, who) in enumerate(sorted(story)):
        first += [*values[done:at], erased(number, who)]
        done = at
    first += values[done:half]
    begin = [
        logs.control(settings, versions, "reference", logs.reference(), LONG_AGO),
        *logs.model(settings, versions, digest, LONG_AGO),
        logs.control(settings, versions, "lists", payload_of({"add": [entry], "remove": []}), LONG_AGO),
    ]
    refused, counts = {}, []

    def activate():
        return control.activate(settings, "keys", TO_2, author, approver, LONG_AGO)[1]

    produce(settings, [*begin, *first[:-40]])
    run_engine(settings, len(begin) + len(first) - 40)
    land(now)
    features.job.run(now)
    refused["no key"] = said(KeysMissing, activate)
    rotation.rotated(settings)
    refused["no map"] = said(ControlRefused, activate)
    refused["version 3"] = said(KeysMissing, lambda: prepared(now, 3))
    counts += [prepared(now, 2), prepared(now, 2)]
    # What comes between the first preparation and the switch, and behind it, in one range of bronze.
    produce(settings, first[-40:])
    switch = activate()
    assert switch == len(begin) + len(first)
    produce(settings, values[half:])
    end = switch + 1 + len(values) - half
    refused["engine"] = said(SnapshotRefused, lambda: run_engine(settings, end))
    refused["engine again"] = said(SnapshotRefused, lambda: run_engine(settings, end))
    land(now)
    refused["features"] = said(RangeMissing, lambda: features.job.run(now))
    counts += [prepared(now, 2), prepared(now, 2)]
    features.job.run(now)
    before = delta.rows(now.root, tables.PAYMENTS, tables.PAYMENTS.column_names).sort_by("offset").to_pylist()
    restart = run_engine(settings, end)
    land(now)
    name = topics.topic_name(settings, topics.EVENTS)
    found = kafka.read_range(settings, name, 0, 0, end)
    messages = [Message(m.offset(), m.timestamp()[1], m.value()) for m in found]
    other = logs.control(settings, versions, "reference", logs.reference() + " ", LONG_AGO)
    unmigrated = [*messages[:switch], replace_value(messages[switch], other), *messages[switch + 1 :]]
    twin = {one["offset"]: one for one in logs.columns(logs.decided(logs.engine(settings), unmigrated))}
    return World(settings, now, people, messages, switch, refused, counts, restart, twin, before)


def replace_value(message, value):
    return message._replace(value=value)


def decisions(world):
    rows = delta.rows(world.root, tables.DECISIONS, tables.DECISIONS.column_names).sort_by("offset").to_pylist()
    return {row["offset"]: row for row in rows}


def test_the_engine_stops_at_the_switch_says_what_to_do_and_goes_on_there(world):
    place = world.switch + 1
    assert world.refused["engine"] == (
        f"The state at offset {place} has tokens of version 1; from there on the log has version 2. "
        "Make a state behind that position: python -m silver.job --available-now, "
        "python -m silver.tokens prepare --to 2, python -m features.job --available-now; then start again."
    )
    assert world.refused["engine again"] == world.refused["engine"]
    assert world.restart == place
    newest = snapshot.newest([world.settings.features.snapshot_folder])[0]
    assert int(newest.name.split(".")[0]) > place


def test_what_comes_too_early_is_refused_by_name(world):
    assert "version 2 here, which this process does not hold" in world.refused["no key"]
    assert "python -m lakehouse.keys rotate" in world.refused["no key"]
    assert world.refused["no map"].endswith("python -m silver.tokens prepare --to 2")
    assert "version 3" in world.refused["version 3"]
    assert world.refused["features"].startswith(
        f"Tokens are of version 2 behind offset {world.switch}; silver.token_map"
    )
    rotation.rotated(world.settings)
    rotation.rotated(world.settings)
    assert said(MapRefused, lambda: prepared(world.context, 4)).startswith(
        "Tokens are of version 2; a map to version 4"
    )


def test_every_decision_of_the_migrated_world_is_that_of_its_twin_but_for_the_tokens(world):
    found = decisions(world)
    assert found.keys() == world.twin.keys()
    same = (
        "transaction_id",
        "outcome",
        "risk",
        "score",
        "score_with_rules",
        "rules_fired",
        "lists_hit",
        "vector",
        "rung",
    )
    for offset, row in found.items():
        other = world.twin[offset]
        for name in same:
            value = other[name]
            text = value.decode() if isinstance(value, bytes) and name != "vector" else value
            if isinstance(text, list):
                text = [one.decode() if isinstance(one, bytes) else one for one in text]
            assert row[name] == text, (offset, name)
        version = 1 if offset < world.switch else 2
        assert (row["customer_token"] or f"v{version}:").startswith(f"v{version}:")
    behind = [row for offset, row in found.items() if offset > world.switch]
    assert len(behind) > 100
    assert sum("block:card" in row["lists_hit"] for row in behind) > 1


def test_the_lake_has_the_vectors_of_the_engine_to_the_bit(world):
    span = Span(topics.identify(world.settings, topics.EVENTS).topic_id, 0, 0, len(world.messages))
    rows = delta.rows(world.root, gold.VECTORS, ["offset", "vector"])
    lake, engine = Vectors.of(rows["offset"], rows["vector"]), logged(world.root, span)
    assert compared(engine, lake).described()[1:] == []
    again = History(world.context).recomputed(span, None, world.settings.engine.state_folder / "again")
    assert compared(engine, Vectors.of(again["offset"], again["vector"])).mismatches == 0


def test_a_stretch_without_payments_and_authorisations_leaves_a_snapshot_too(world):
    moving = {
        row["offset"]
        for table in (tables.PAYMENTS, tables.AUTHORISATIONS)
        for row in delta.rows(world.root, table, ["offset"]).to_pylist()
    }
    quiet = next(at for at in range(world.switch + 1, len(world.messages)) if at not in moving)
    topic_id = topics.identify(world.settings, topics.EVENTS).topic_id
    again = replace(world.context, interval=Interval(quiet, quiet + 1))
    History(again).take(Span(topic_id, 0, quiet, quiet + 1))
    left = store.load(world.settings.features.snapshot_folder / snapshot.file_name(quiet + 1), world.settings, topic_id)
    assert left.place.next_offset == quiet + 1


def test_both_sides_of_the_switch_are_decided_again_from_silver_as_they_were(world):
    settings = world.settings
    span = interval(world.root, None, None).span
    draws = key_of(keys.source(settings).keyring())
    judge = Judge(Shelf.of(settings), settings.ladder, draws, Changes(), Changes(), Stages())
    found = {}
    for stretch in Past(settings, world.root, span, folders(settings), Stages()).stretches():
        verdicts, _ = judge.both(stretch)
        vectors = stretch.payments.vectors
        for row, offset in enumerate(stretch.offset.tolist()):
            lists = verdicts.ruling.lists.get(row, [])
            found[offset] = (verdicts.outcome[row], verdicts.score[0, row], lists, vectors[row].tobytes())
    told = {at: row for at, row in decisions(world).items() if row["outcome"] != "rejected"}
    assert found.keys() == told.keys()
    for offset, row in told.items():
        assert found[offset] == (row["outcome"], row["score"], row["lists_hit"], row["vector"]), offset


def test_a_blank_customer_id_is_nobodys_under_both_keys(world, tmp_path):
    span = Span(topics.identify(world.settings, topics.EVENTS).topic_id, 0, 0, len(world.messages))
    found = renaming(world.settings, world.root, span, tmp_path).blank_customers
    assert found == (entity_key_of_token(world.token("", 1)), entity_key_of_token(world.token(" ", 2)))


def test_old_snapshots_go_but_none_that_an_engine_begins_with_and_none_of_another_kind(world, tmp_path):
    found = snapshot.read(world.settings.features.snapshot_folder / snapshot.file_name(world.switch + 1))
    positions = range(world.switch - 30, world.switch + 31)
    for position in positions:
        snapshot.write(tmp_path / snapshot.file_name(position), {**found.meta, "next_offset": position}, {})
    snapshot.write(tmp_path / snapshot.file_name(10**9), {**found.meta, "spec": "of another release"}, {})
    features_ = world.settings.features.model_copy(update={"snapshot_folder": tmp_path, "snapshots_kept": 5})
    now = replace(world.context, settings=world.settings.model_copy(update={"features": features_}))
    History(now)._thin({**found.meta, "next_offset": positions[-1]})
    left = [snapshot.position(path) for path in snapshot.newest([tmp_path])]
    assert left[:6] == [10**9, *reversed(positions[-5:])]
    assert left[-1] == positions[0]
    assert world.switch + 1 in left
    assert len(left) < 15


def test_a_rerun_gives_every_row_the_tokens_it_had(world, context):
    around = Interval(0, world.switch + 60)
    silver.job.run(context(world.settings, around))
    features.job.run(context(world.settings, around))
    after = delta.rows(world.root, tables.PAYMENTS, tables.PAYMENTS.column_names).sort_by("offset").to_pylist()
    names = [name for name in tables.PAYMENTS.column_names if name.endswith("_token")]
    assert [[row[name] for name in names] for row in after] == [[row[name] for name in names] for row in world.before]
    assert {row["customer_token"][:3] for row in after if row["offset"] < world.switch} == {"v1:"}
    assert {row["customer_token"][:3] for row in after if row["offset"] > world.switch} == {"v2:"}
    test_the_lake_has_the_vectors_of_the_engine_to_the_bit(world)


def test_a_second_preparation_finds_nothing_and_the_map_tells_what_was_carried(world):
    assert world.prepared[0] > 0
    assert world.prepared[1] == 0
    assert world.prepared[2] > 0
    assert world.prepared[3] == 0
    at = delta.opened(world.root, tables.TOKEN_MAP).version()
    assert prepared(world.context, 2) == 0
    assert delta.opened(world.root, tables.TOKEN_MAP).version() == at
    held = delta.rows(world.root, tables.TOKEN_MAP, tables.TOKEN_MAP.column_names).to_pylist()
    customers = {row["old_token"]: row for row in held if row["kind"] == "customer"}
    gone = customers[world.token(world.people.gone, 1)]
    assert gone["carried"]
    assert gone["new_token"] != world.token(world.people.gone, 2)
    back = customers[world.token(world.people.returning, 1)]
    assert (back["carried"], back["new_token"]) == (False, world.token(world.people.returning, 2))
    assert len({(row["kind"], row["new_token"]) for row in held}) == len(held)


def test_preparing_and_switching_are_on_record(world):
    told = [(e.action, e.subject) for e in trail.entries(trail.place_of(world.settings))]
    wanted = [
        ("tokens.prepared", "version 2"),
        ("control.activated", "keys version 1"),
        ("tokens.prepared", "version 2"),
    ]
    assert [one for one in told if one in wanted] == wanted


def test_an_erasure_after_the_switch_destroys_the_keys_of_both_names(world):
    data_keys, later = DataKeys(keys.source(world.settings)), world.people.later
    rows = delta.rows(world.root, tables.PAYMENTS, tables.PAYMENTS.column_names).to_pylist()
    theirs = [r for r in rows if r["customer_token"] in (world.token(later, 1), world.token(later, 2))]
    assert {opened(data_keys, "silver.payments", row)["customer_id"] for row in theirs} == {later}
    assert len({row["customer_token"] for row in theirs}) == 2
    erasure.request(world.settings, later, "after-the-switch")
    land(world.context)
    for row in theirs:
        with pytest.raises(KeyDestroyed):
            opened(data_keys, "silver.payments", row)
    found = erasure.report(world.settings, "after-the-switch")
    assert (found["keys"], found["keys_left"], found["customer_token"]) == (2, 0, world.token(later, 2))
    (places,) = [place for place in found["places"] if place["place"] == "silver.payments"]
    assert places["rows"] == len(theirs)
    others = [r for r in rows if r not in theirs and r["personal"] and r["offset"] > world.switch]
    assert opened(data_keys, "silver.payments", others[0])["customer_id"] != later


def test_a_token_without_a_new_name_is_refused_and_preparing_again_mends_it(world):
    """The last test of this world: it takes a row out of the map."""
    root, people = world.root, world.people
    lost = world.token(people.returning, 1)
    DeltaTable.forPath(world.context.spark, tables.TOKEN_MAP.path(root)).delete(
        f"kind = 'customer' AND old_token = '{lost}'"
    )
    span = Span(topics.identify(world.settings, topics.EVENTS).topic_id, 0, 0, len(world.messages))
    working = world.settings.engine.state_folder / "lost"
    assert "silver.token_map lacks a token of kind customer at offset" in said(
        RangeMissing, lambda: History(world.context).recomputed(span, None, working)
    )
    assert prepared(world.context, 2) == 0
    assert prepared(world.context, 2, again=True) == 1
    again = History(world.context).recomputed(span, None, working)
    engine = logged(root, span)
    assert compared(engine, Vectors.of(again["offset"], again["vector"])).mismatches == 0
