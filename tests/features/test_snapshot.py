"""A snapshot is whole, of this feature set and of this topic, or it is refused and says what to do."""

import resource
import time

import numpy as np
import pytest
import worlds

from decisions.keeping import Keeper, newest_good
from features import snapshot, store
from features.store import Place
from lakehouse.errors import SnapshotRefused
from lakehouse.workplace import workplace


@pytest.fixture
def state(settings, seed):
    """A state after a small world."""
    made = store.new(settings, Place("T", 0, 0))
    made.flow.take(*worlds.world([seed, 70], n=200))
    made.place = Place("T", 0, 900)
    return made


@pytest.fixture
def path(settings, state, tmp_path):
    """Its snapshot."""
    path = tmp_path / snapshot.file_name(900)
    snapshot.write(path, *store.saved(state))
    return path


def test_what_was_written_is_what_is_read(settings, state, path):
    again = store.load(path, settings, "T")
    assert again.place == Place("T", 0, 900)
    _, before = store.saved(state)
    _, after = store.saved(again)
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_one_flipped_bit_anywhere_is_found(settings, path, seed):
    raw = path.read_bytes()
    random = np.random.default_rng(seed)
    places = [0, 8, 20, 60, len(raw) - 1, *random.integers(0, len(raw), 25).tolist()]
    for at in places:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << int(random.integers(8))]) + raw[at + 1 :])
        with pytest.raises(SnapshotRefused, match=r"Delete it: the one before it and the log"):
            store.load(path, settings, "T")


def test_a_torn_file_is_found_wherever_it_ends(settings, path, seed):
    raw = path.read_bytes()
    for size in [0, 7, 40, 100, len(raw) // 2, len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(SnapshotRefused, match=r"is torn|does not begin like a snapshot|has an altered header"):
            store.load(path, settings, "T")


def test_a_snapshot_of_another_topic_says_what_to_do(settings, path):
    with pytest.raises(SnapshotRefused, match=r"is of topic id T; the topic now has id U\. .*start new state"):
        store.load(path, settings, "U")


def test_a_snapshot_of_another_label_delay_says_what_to_do(settings, path):
    other = settings.model_copy(update={"features": settings.features.model_copy(update={"label_delay_d": 3})})
    with pytest.raises(SnapshotRefused, match=r"another feature set, label delay or retention\. .*features\.job"):
        store.load(path, other, "T")


def test_a_starting_engine_takes_the_newest_snapshot_that_is_whole(settings, state, tmp_path):
    settings = settings.model_copy(
        update={
            "engine": settings.engine.model_copy(update={"state_folder": tmp_path / "state"}),
            "features": settings.features.model_copy(update={"snapshot_folder": tmp_path / "none"}),
        }
    )
    for offset in (900, 950):
        state.place = Place("T", 0, offset)
        snapshot.write(tmp_path / "state" / snapshot.file_name(offset), *store.saved(state))
    assert newest_good(settings, "T").place.next_offset == 950
    newest = tmp_path / "state" / snapshot.file_name(950)
    newest.write_bytes(newest.read_bytes()[:-1])
    assert newest_good(settings, "T").place.next_offset == 900


def test_a_state_under_other_tokens_than_the_log_has_behind_it_is_refused(settings, state, tmp_path):
    payload = '{"token_version":2}'
    state.admission.in_force.fold([{"scope": "keys", "version": 1, "previous_digest": "", "payload": payload}], [])
    state.place = Place("T", 0, 800)
    path = tmp_path / snapshot.file_name(800)
    snapshot.write(path, *store.saved(state))
    with pytest.raises(
        SnapshotRefused, match=r"at offset 800 has tokens of version 1;.*version 2.*silver.tokens prepare"
    ):
        store.load(path, settings, "T")
    state.token_version = 2
    snapshot.write(path, *store.saved(state))
    assert store.load(path, settings, "T").token_version == 2


def test_a_snapshot_of_the_lake_that_is_ahead_of_the_engine_is_its_last_resort(settings, state, tmp_path):
    own, lake = tmp_path / "state", tmp_path / "lake"
    settings = settings.model_copy(
        update={
            "engine": settings.engine.model_copy(update={"state_folder": own}),
            "features": settings.features.model_copy(update={"snapshot_folder": lake}),
        }
    )
    for folder, offset in ((own, 900), (lake, 850), (lake, 1000)):
        state.place = Place("T", 0, offset)
        snapshot.write(folder / snapshot.file_name(offset), *store.saved(state))
    # What lies between 900 and 1000 has not been decided.
    assert newest_good(settings, "T").place.next_offset == 900
    torn = own / snapshot.file_name(900)
    torn.write_bytes(torn.read_bytes()[:-1])
    assert newest_good(settings, "T").place.next_offset == 850
    # The log begins at 950: nobody can decide what it no longer has.
    assert newest_good(settings, "T", low=950).place.next_offset == 1000


def test_until_it_is_whole_it_can_lie_in_a_working_folder_that_goes_with_a_killed_run(state, tmp_path, monkeypatch):
    folder, seen = tmp_path / "snapshots", []
    with workplace(folder) as working:

        def look(_name):
            seen.extend((path.parent == working, path.suffix) for path in folder.rglob("*") if path.is_file())

        monkeypatch.setattr(snapshot, "crash_point", look)
        snapshot.write(folder / snapshot.file_name(7), *store.saved(state), working)
    assert seen == [(True, ".new")]
    assert [path.name for path in folder.iterdir()] == [snapshot.file_name(7)]


def test_a_copy_under_another_name_is_no_snapshot_and_keeps_no_engine_from_starting(settings, state):
    folder = settings.engine.state_folder
    snapshot.write(folder / snapshot.file_name(900), *store.saved(state))
    for name in ("copy-of-900.state", f"{900:020d}.old.state", ".state", snapshot.file_name(950) + ".bak"):
        (folder / name).write_bytes((folder / snapshot.file_name(900)).read_bytes())
    assert snapshot.newest([folder]) == [folder / snapshot.file_name(900)]
    assert newest_good(settings, "T").place.next_offset == 900


def test_nothing_is_under_its_name_until_it_is_complete(state, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(snapshot, "crash_point", lambda _: seen.extend(p.name for p in tmp_path.iterdir()))
    snapshot.write(tmp_path / snapshot.file_name(7), *store.saved(state))
    assert len(seen) == 1
    assert seen[0].endswith(".new")
    assert [p.name for p in tmp_path.iterdir()] == [snapshot.file_name(7)]


def save_where_the_disk_is_full(keeper, state):
    """A snapshot whose child may write no more than 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        keeper.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    keeper.reap(wait=True)


def test_a_snapshot_that_failed_says_why_and_is_written_at_the_end_although_nothing_came_since(settings, state, capsys):
    folder = settings.engine.state_folder
    folder.mkdir()
    keeper = Keeper(settings, 0)
    save_where_the_disk_is_full(keeper, state)
    said = capsys.readouterr()
    assert "File too large" in said.out + said.err
    keeper.save_now(state)
    assert [path.name for path in folder.iterdir()] == [snapshot.file_name(900)]


class Hanging(Keeper):
    """Its snapshots hang while `hangs`, as on a disk that does not answer."""

    hangs = True

    def _write(self, state):
        if self.hangs:
            time.sleep(60)
        super()._write(state)


@pytest.mark.parametrize("stops", [False, True])
def test_a_snapshot_that_hangs_is_ended_and_the_next_one_is_written(settings, state, stops, capsys):
    hurried = settings.engine.model_copy(update={"snapshot_longest_s": 1, "snapshot_interval_s": 1})
    folder = hurried.state_folder
    folder.mkdir()
    keeper = Hanging(settings.model_copy(update={"engine": hurried}), 0)
    keeper.save(state)
    keeper.hangs = False  # in this process; the child goes on hanging
    if stops:
        keeper.save_now(state)
    else:
        for _ in range(500):
            if keeper.due(901):
                break
            time.sleep(0.01)
        assert keeper.due(901)
        keeper.save(state)
        keeper.reap(wait=True)
    assert [path.name for path in folder.iterdir()] == [snapshot.file_name(900)]
    said = capsys.readouterr()
    assert "a snapshot hangs and is ended" in said.out + said.err
    assert "ended by signal 9" in said.out + said.err


def test_what_could_not_be_written_or_was_killed_at_it_takes_no_room(settings, state):
    folder = settings.engine.state_folder
    folder.mkdir()
    keeper = Keeper(settings, 0)
    save_where_the_disk_is_full(keeper, state)
    assert list(folder.iterdir()) == []
    killed = (folder / snapshot.file_name(800)).with_suffix(f".123{snapshot.TORN}")
    killed.write_bytes(b"FRAUDLK2")
    keeper.save(state)
    assert not killed.exists(), "gone before the next one is written"
    keeper.reap(wait=True)
    assert [path.name for path in folder.iterdir()] == [snapshot.file_name(900)]
