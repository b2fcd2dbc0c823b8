"""Data keys: made once by whoever is first, bound to their names, readable while master keys change, gone for ever."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from lakehouse import keys, rotation, trail
from lakehouse import settings as conf
from lakehouse.crypto import Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.errors import KeyDestroyed, KeysMissing, KeyUnknown
from lakehouse.key_age import too_old
from lakehouse.key_store import KeyName, Wrapped
from lakehouse.keys import Keyring, KeySource
from lakehouse.settings import Settings

DAY = KeyName("day", "bronze|2026-01-05", 1)


def _subjects(numbers: range) -> list[KeyName]:
    return [KeyName("subject", f"T/0|v1:{number:06d}", 0) for number in numbers]


@pytest.fixture
def source(tmp_path: Path) -> KeySource:
    folder = tmp_path / "keys"
    keys.create(folder)
    return KeySource("file", str(folder))


@pytest.fixture
def settings(source: KeySource, tmp_path: Path) -> Settings:
    base = conf.load()
    return base.model_copy(
        update={
            "keys": base.keys.model_copy(update={"folder": Path(source.folder)}),
            "trail": base.trail.model_copy(update={"folder": tmp_path / "trail", "heads_folder": tmp_path / "heads"}),
            "lake": base.lake.model_copy(update={"root": str(tmp_path / "lake")}),
        }
    )


def test_a_key_is_random_and_the_same_for_everybody(source: KeySource) -> None:
    first, second = (DataKeys(source).provided([DAY, *_subjects(range(3))]) for _ in range(2))
    assert first == second
    assert len(set(first.values())) == 4
    assert {len(key or b"") for key in first.values()} == {32}
    assert DataKeys(source).held([DAY, KeyName("day", "bronze|2026-01-06", 1)]) == {DAY: first[DAY]}


def test_many_who_need_the_same_keys_at_once_get_the_same(source: KeySource) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda at: DataKeys(source).provided(_subjects(range(at, at + 200))), range(0, 80, 10)))
    whole = DataKeys(source).held(_subjects(range(280)))
    assert all(key == whole[name] for part in found for name, key in part.items())
    assert len(whole) == 270


def test_a_destroyed_key_cannot_be_had_and_is_not_made_again(source: KeySource) -> None:
    data_keys, (one, other, never) = DataKeys(source), _subjects(range(3))
    data_keys.provided([one, other])
    assert data_keys.destroy([one, never]) == [one]
    assert data_keys.destroy([one, never]) == []
    found = data_keys.provided([one, other, never])
    assert [found[name] is None for name in (one, other, never)] == [True, False, True]
    with pytest.raises(KeyDestroyed, match="was destroyed"):
        data_keys.key(one)
    with pytest.raises(KeyUnknown, match="is not in"):
        data_keys.key(KeyName("subject", "T/0|v1:000001", 1))


def test_a_day_whose_key_was_destroyed_goes_on_with_the_next_generation(source: KeySource) -> None:
    data_keys = DataKeys(source)
    assert data_keys.of_today("bronze|2026-01-05") == data_keys.of_today("bronze|2026-01-05") == DAY
    data_keys.destroy([DAY])
    assert data_keys.of_today("bronze|2026-01-05").generation == 2


def test_a_wrapped_key_opens_under_its_own_name_only(source: KeySource) -> None:
    data_keys, (one, other) = DataKeys(source), _subjects(range(2))
    data_keys.provided([one])
    (held,) = data_keys.store.find([one]).values()
    data_keys.store.put([Wrapped(other, held.wrapped, held.master_version, held.made_at)])
    with pytest.raises(KeysMissing, match=r"T/0\|v1:000001\|g0 cannot be opened with master key version 1"):
        data_keys.key(other)


READER = """
import sys
from lakehouse.data_keys import DataKeys
from lakehouse.key_store import KeyName
from lakehouse.keys import KeySource
data_keys = DataKeys(KeySource("file", sys.argv[1]))
names = [KeyName("subject", f"T/0|v1:{number:06d}", 0) for number in range(2000)]
before = data_keys.provided(names)
print("ready", flush=True)
reads = 0
while True:
    assert data_keys.held(names) == before
    assert data_keys.provided([KeyName("subject", f"T/0|new:{reads}", 0)])
    reads += 1
    print(reads, flush=True)
"""


def test_every_key_can_be_read_at_every_moment_while_master_keys_are_rotated(
    settings: Settings, source: KeySource
) -> None:
    command = [sys.executable, "-c", READER, source.folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        last = [0]

        def follow() -> None:
            assert reader.stdout is not None
            for line in reader.stdout:
                last[0] = int(line)

        follower = threading.Thread(target=follow)
        follower.start()
        began = [last[0]]
        for version in (2, 3, 4):
            assert f"version {version} wraps new data keys" in rotation.rotated(settings)
            assert f"wrapped by master key version {version}" in rotation.rewrapped(settings)
            began.append(last[0])
        goal = last[0] + 5
        while last[0] < goal and reader.poll() is None:
            pass
        alive = reader.poll() is None
        reader.kill()
        follower.join()
        assert alive, reader.stderr.read() if reader.stderr else ""
    assert began[-1] > 0
    assert {key.master_version for key in DataKeys(source).store.all("subject")} == {4}


def test_a_new_master_key_wraps_and_leaves_tokens_as_they_are(settings: Settings, source: KeySource) -> None:
    before = Tokens(source.keyring()).text(Tokens(source.keyring()).digests("card", [b"4539148803436467"])[0])
    data_keys = DataKeys(source)
    data_keys.provided([DAY])
    rotation.rotated(settings)
    ring = source.keyring()
    assert (ring.current, ring.token_version, sorted(ring.masters)) == (2, 1, [1, 2])
    assert Tokens(ring).text(Tokens(ring).digests("card", [b"4539148803436467"])[0]) == before
    DataKeys(source).provided(_subjects(range(1)))
    assert [key.master_version for kind in ("day", "subject") for key in data_keys.store.all(kind)] == [1, 2]
    assert rotation.rewrapped(settings).startswith("1 data keys wrapped again")
    assert rotation.rewrapped(settings).startswith("0 data keys wrapped again")
    actions = [(entry.action, dict(entry.details)) for entry in trail.entries(trail.place_of(settings))]
    assert ("key.rotated", {"version": 2}) in actions
    assert ("key.rewrapped", {"version": 2, "keys": 1}) in actions


def test_an_old_master_key_is_not_needed_once_everything_is_wrapped_again(
    settings: Settings, source: KeySource
) -> None:
    before = DataKeys(source).provided(_subjects(range(5)))
    rotation.rotated(settings)
    rotation.rewrapped(settings)
    path = Path(source.folder) / keys.KEYRING
    content = orjson.loads(path.read_bytes())
    del content["masters"]["1"]
    keys.write_private(path, orjson.dumps({**content, "token_version": 2}))
    assert DataKeys(source).held(_subjects(range(5))) == before


def test_tokens_of_a_version_that_is_not_held_are_refused(source: KeySource) -> None:
    path = Path(source.folder) / keys.KEYRING
    content = orjson.loads(path.read_bytes())
    keys.write_private(path, orjson.dumps({**content, "token_version": 7}))
    with pytest.raises(KeysMissing, match="Tokens are of master key version 7, which is not held"):
        source.keyring()


def test_rotating_keys_of_the_environment_says_what_to_set(settings: Settings) -> None:
    elsewhere = settings.model_copy(
        update={"keys": settings.keys.model_copy(update={"provider": "environment"})},
    )
    with pytest.raises(KeysMissing, match="FRAUDLAKE_MASTER_KEY_V<n\\+1>"):
        rotation.rotated(elsewhere)


NOW = datetime(2026, 12, 31, 12, tzinfo=UTC)
OLD, YOUNG = datetime(2025, 12, 30, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def test_a_master_key_over_its_age_is_named_with_what_to_do() -> None:
    first, second = bytes(range(32)), bytes(range(32, 64))
    why = too_old(Keyring({1: first}, made_at={1: OLD}), 365, NOW)
    assert why is not None
    assert why.startswith("Master key version 1 is 366 days old, keys.max_age_days is 365. Rotate it")
    assert too_old(Keyring({1: first}, made_at={1: YOUNG}), 365, NOW) is None
    assert too_old(Keyring({1: first, 2: second}, made_at={1: OLD, 2: YOUNG}), 365, NOW) is None
    unknown = too_old(Keyring({1: first}), 365, NOW)
    assert unknown is not None
    assert "FRAUDLAKE_MASTER_KEY_V1_MADE_AT" in unknown
