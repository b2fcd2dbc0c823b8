"""The spool: whole pairs or nothing, in order, sealed; what a crash tore is found, what somebody altered is named."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import keys
from lakehouse.errors import SettingsError, StoreUnavailable
from lakehouse.keys import KeySource
from serving.spool import FRAME, HEAD, Spool

SECRET = b"4539148803436467"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys.create(folder)
    return KeySource("file", str(folder))


def pair(number):
    return SECRET + b"payment %d" % number, b"answer %d" % number


def numbers(spool, at_most=1000):
    found = spool.head(at_most)
    assert all(one.payment.startswith(SECRET) for one in found)
    assert [one.payment.split()[-1] for one in found] == [one.answer.split()[-1] for one in found]
    return [int(one.answer.split()[-1]) for one in found]


def files(folder):
    return sorted(folder.glob("*.spool"))


def test_what_was_put_comes_back_in_order_and_leaves_nothing_once_it_is_drained(tmp_path, source):
    spool = Spool(tmp_path, source, 1 << 20)
    spool.put([pair(0), pair(1)])
    spool.put([pair(2)])
    assert (spool.records, spool.torn_bytes, numbers(spool)) == (3, 0, [0, 1, 2])
    assert spool.size_bytes == sum(path.stat().st_size for path in files(tmp_path))
    assert 0 <= spool.age_s < 60
    assert SECRET not in files(tmp_path)[0].read_bytes()
    assert files(tmp_path)[0].stat().st_mode & 0o077 == 0
    spool.drained(spool.head(2)[1].after)
    assert numbers(spool) == [2]
    spool.put([pair(3)])
    spool.drained(spool.head(9)[-1].after)
    assert (spool.records, spool.size_bytes, spool.age_s, files(tmp_path)) == (0, 0, 0.0, [])
    spool.put([pair(4)])
    assert numbers(spool) == [4]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_what_is_counted_is_what_is_not_drained(tmp_path_factory, source, sizes, data):
    folder = tmp_path_factory.mktemp("counted")
    spool, put = Spool(folder, source, 1 << 20), 0
    for size in sizes:
        spool.put([pair(number) for number in range(put, put + size)])
        put += size
    done = data.draw(st.integers(0, put))
    if done:
        spool.drained(spool.head(done)[-1].after)
    spool.put([pair(put)])
    left = list(range(done, put + 1))
    assert (spool.records, numbers(spool)) == (len(left), left)
    spool.close()
    again = Spool(folder, source, 1 << 20)
    again.put([pair(put + 1)])
    assert (again.records, numbers(again)) == (len(left) + 1, [*left, put + 1])
    again.close()


def test_counting_and_the_next_to_drain_cost_as_much_with_many_waiting_or_drained_as_with_few(tmp_path, source):
    spool = Spool(tmp_path, source, 1 << 20)

    def calls():
        seen = []
        sys.setprofile(lambda _, event, __: seen.append(event))
        try:
            spool.records, spool.age_s, spool.head(1)
        finally:
            sys.setprofile(None)
        return seen.count("call")

    spool.put([pair(0), pair(1)])
    few = calls()
    spool.put([pair(number) for number in range(2, 500)])
    assert calls() == few
    spool.drained(spool.head(400)[-1].after)
    assert calls() == few


def test_a_restart_goes_on_behind_what_was_drained(tmp_path, source):
    first = Spool(tmp_path, source, 1 << 20)
    first.put([pair(n) for n in range(5)])
    first.drained(first.head(3)[-1].after)
    first.close()
    second = Spool(tmp_path, source, 1 << 20)
    second.put([pair(5)])
    assert numbers(second) == [3, 4, 5]
    assert len(files(tmp_path)) == 2
    second.close()
    (tmp_path / "drained").unlink()
    assert numbers(Spool(tmp_path, source, 1 << 20)) == [0, 1, 2, 3, 4, 5]


@given(cut=st.integers(1, 400))
def test_a_torn_tail_is_found_and_the_whole_records_before_it_are_there(tmp_path_factory, source, cut):
    folder = tmp_path_factory.mktemp("torn")
    spool = Spool(folder, source, 1 << 20)
    spool.put([pair(n) for n in range(4)])
    spool.close()
    (path,) = files(folder)
    raw = path.read_bytes()
    size = len(raw) - HEAD.size
    path.write_bytes(raw[: len(raw) - min(cut, size)])
    left = Spool(folder, source, 1 << 20)
    whole = (size - min(cut, size)) // (size // 4)
    assert numbers(left) == list(range(whole))
    assert left.torn_bytes == (size - min(cut, size)) % (size // 4)
    assert left.damaged_bytes == 0


@pytest.mark.parametrize("place", ["length", "checksum", "time", "nonce", "last byte"])
def test_damage_between_records_is_named_and_costs_only_its_own_record(tmp_path, source, capsys, place):
    spool = Spool(tmp_path, source, 1 << 20)
    spool.put([pair(n) for n in range(4)])
    spool.close()
    (path,) = files(tmp_path)
    raw = bytearray(path.read_bytes())
    step = (len(raw) - HEAD.size) // 4
    at = {"length": 1, "checksum": 5, "time": 10, "nonce": FRAME.size, "last byte": step - 1}[place]
    raw[HEAD.size + step + at] ^= 0x40
    path.write_bytes(raw)
    left = Spool(tmp_path, source, 1 << 20)
    assert (numbers(left), left.damaged_bytes, left.torn_bytes) == ([0, 2, 3], step, 0)
    left.drained(left.head(9)[-1].after)
    assert [path.name for path in tmp_path.glob("*.damaged")] == ["000000000001.damaged"]
    said = capsys.readouterr()
    assert "a spool file is damaged" in said.out + said.err


def test_records_that_change_places_do_not_open(tmp_path, source):
    spool = Spool(tmp_path, source, 1 << 20)
    spool.put([pair(n) for n in range(3)])
    spool.close()
    (path,) = files(tmp_path)
    raw = path.read_bytes()
    step = (len(raw) - HEAD.size) // 3
    first, second, third = (raw[HEAD.size + n * step : HEAD.size + (n + 1) * step] for n in range(3))
    path.write_bytes(raw[: HEAD.size] + second + first + third)
    spool = Spool(tmp_path, source, 1 << 20)
    assert numbers(spool) == [2]
    assert [one.after for one in spool.head(10)] == [one.after for one in spool.each()]
    # Told of once, however often it is read; what follows is drained, however much is damaged before it.
    assert spool.damaged_bytes == 2 * (step - FRAME.size)
    assert (spool.records, len(spool.head(1))) == (1, 1)


def test_a_full_spool_takes_nothing_and_says_so(tmp_path, source):
    spool = Spool(tmp_path, source, 400)
    spool.put([pair(0)])
    with pytest.raises(StoreUnavailable, match="is full \\(400 bytes\\)"):
        spool.put([pair(n) for n in range(1, 5)])
    assert numbers(spool) == [0]
    assert spool.size_bytes < 400


def test_of_a_write_that_failed_half_way_nothing_is_drained(tmp_path, source):
    spool = Spool(tmp_path, source, 1 << 20)
    spool.put([pair(0)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (files(tmp_path)[0].stat().st_size + 150, before[1]))
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            spool.put([pair(n) for n in range(1, 4)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    spool.put([pair(9)])
    assert numbers(spool) == [0, 9]
    spool.close()
    assert numbers(Spool(tmp_path, source, 1 << 20)) == [0, 9]


def test_two_processes_do_not_share_a_folder(tmp_path, source):
    spool = Spool(tmp_path, source, 1 << 20)
    with pytest.raises(SettingsError, match="in use by another process"):
        Spool(tmp_path, source, 1 << 20)
    spool.close()
    Spool(tmp_path, source, 1 << 20).close()


def test_what_was_sealed_before_a_rotation_of_the_master_key_still_opens(tmp_path):
    folder = tmp_path / "keys"
    keys.create(folder)
    spool = Spool(tmp_path / "spool", KeySource("file", str(folder)), 1 << 20)
    spool.put([pair(0)])
    spool.close()
    assert keys.added(folder) == 2
    again = Spool(tmp_path / "spool", KeySource("file", str(folder)), 1 << 20)
    again.put([pair(1)])
    assert numbers(again) == [0, 1]


CRASHING = """
import sys
from pathlib import Path
from lakehouse.keys import KeySource
from serving.spool import Spool
spool = Spool(Path(sys.argv[1]), KeySource("file", sys.argv[2]), 1 << 20)
spool.put([(b"4539148803436467payment %d" % n, b"answer %d" % n) for n in range(3)])
print("put", flush=True)
spool.drained(spool.head(2)[-1].after)
"""


@pytest.mark.parametrize(("place", "told", "left"), [("spool-written", "", [0, 1, 2]), ("spool-drained", "put\n", [2])])
def test_a_process_that_is_killed_leaves_what_it_had_promised(tmp_path, source, place, told, left):
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(tmp_path), source.folder],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FRAUDLAKE_CRASH_AT": place},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, told)
    assert numbers(Spool(tmp_path, source, 1 << 20)) == left
