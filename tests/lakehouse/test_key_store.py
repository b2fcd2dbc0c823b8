"""Wrapped keys in their file: nobody overwrites another's, and a destroyed one is nowhere in it any more."""

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import KeysMissing
from lakehouse.key_store import FILE, KeyName, KeyStore, Wrapped


def _name(number: int, generation: int = 0) -> KeyName:
    return KeyName("subject", f"T/0|v1:{number:06d}", generation)


def _key(name: KeyName) -> Wrapped:
    return Wrapped(name, os.urandom(60), 1, 1_700_000_000_000)


def _files(folder: Path) -> bytes:
    """The file of keys and whatever SQLite keeps beside it."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob(f"{FILE}*")))


def test_the_first_writer_of_a_key_wins(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    first, second, other = _key(_name(1)), _key(_name(1)), _key(_name(2))
    assert store.put([first]) == {_name(1): first}
    assert store.put([second, other]) == {_name(1): first, _name(2): other}
    assert store.find([_name(1), _name(2), _name(3), _name(1, 1)]) == {_name(1): first, _name(2): other}
    assert oct(store.path.stat().st_mode & 0o777) == "0o600"


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60), st.randoms())
def test_a_destroyed_key_leaves_no_byte_and_never_comes_back(
    steps: list[tuple[int, bool]], order: random.Random
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store, made, gone = KeyStore(Path(folder)), {}, set()
        for number, destroys in steps:
            name = _name(number)
            if destroys:
                assert store.destroy([name], 5) == ([name] if name in made and name not in gone else [])
                gone.add(name)
            else:
                now = store.put([_key(name)])[name]
                assert (now.wrapped is None) == (name in gone)
                made.setdefault(name, now)
        held = _files(Path(folder))
        for name, key in made.items():
            if key.wrapped is not None:
                assert (key.wrapped in held) == (name not in gone)
        assert {name for name, key in store.find(list(map(_name, range(31)))).items() if key.wrapped is None} == gone


def test_of_thousands_of_keys_the_destroyed_ones_are_nowhere_and_the_others_stay(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    numbers = list(range(6000))
    random.Random(1).shuffle(numbers)
    keys = [_key(_name(number)) for number in numbers]
    for start in range(0, 6000, 700):
        store.put(keys[start : start + 700])
    gone, kept = keys[::3], [key for at, key in enumerate(keys) if at % 3]
    for start in range(0, len(gone), 400):
        names = [key.name for key in gone[start : start + 400]]
        assert sorted(store.destroy(names, 7)) == sorted(names)
    held = _files(tmp_path)
    assert [key.name for key in gone if key.wrapped is None or key.wrapped in held] == []
    assert [key.name for key in kept if key.wrapped is None or key.wrapped not in held] == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_copy_in_an_unused_part_of_a_page_is_found_and_removed(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key = store.put([_key(_name(1))])[_name(1)]
    assert key.wrapped is not None
    with sqlite3.connect(store.path) as careless:
        careless.execute("PRAGMA secure_delete = OFF")
        careless.execute("CREATE TABLE copies (wrapped BLOB)")
        careless.execute("INSERT INTO copies VALUES (?)", (key.wrapped,))
        careless.execute("DROP TABLE copies")
    careless.close()
    assert _files(tmp_path).count(key.wrapped) == 2
    store.destroy([_name(1)], 7)
    assert key.wrapped not in _files(tmp_path)


def test_while_a_copy_stays_nothing_is_destroyed_and_the_order_can_be_given_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key = store.put([_key(_name(1))])[_name(1)]
    assert key.wrapped is not None
    careless = sqlite3.connect(store.path, isolation_level=None)
    careless.execute("PRAGMA secure_delete = OFF").close()
    careless.execute("CREATE TABLE copies (wrapped BLOB)")
    careless.execute("INSERT INTO copies VALUES (?)", (key.wrapped,))
    with pytest.raises(KeysMissing, match="holds copies of a key that is to be destroyed; nothing was destroyed"):
        store.destroy([_name(1)], 7)
    assert store.find([_name(1)]) == {_name(1): key}
    careless.execute("DROP TABLE copies")
    careless.close()
    assert _files(tmp_path).count(key.wrapped) == 2
    assert store.destroy([_name(1)], 8) == [_name(1)]
    assert key.wrapped not in _files(tmp_path)


def test_a_destruction_that_was_killed_in_the_middle_is_undone_or_done(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    keys = [_key(_name(number)) for number in range(2000)]
    store.put(keys)
    program = (
        "import sys, os, signal, threading; from pathlib import Path; from lakehouse.key_store import *\n"
        "store = KeyStore(Path(sys.argv[1])); names = [KeyName('subject', f'T/0|v1:{n:06d}', 0) for n in range(2000)]\n"
        "threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n"
        "store.destroy(names, 7)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for delay in (0.001, 0.004, 0.008, 0.016, 0.03):
        subprocess.run([sys.executable, "-c", program, str(tmp_path), str(delay)], check=False)
        living = {key.wrapped is not None for key in store.find([key.name for key in keys]).values()}
        assert len(living) == 1
    store.destroy([key.name for key in keys], 8)
    held = _files(tmp_path)
    assert [key.name for key in keys if key.wrapped is None or key.wrapped in held] == []


def test_a_key_that_was_destroyed_meanwhile_is_not_wrapped_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    before = list(store.put([_key(_name(number)) for number in range(3)]).values())
    store.destroy([_name(1)], 7)
    after = [Wrapped(key.name, os.urandom(60), 2, key.made_at) for key in before]
    assert store.replace(before, after) == 2
    assert [key.wrapped is None for _, key in sorted(store.find(list(map(_name, range(3)))).items())] == [
        False,
        True,
        False,
    ]
    assert store.wrapped_by_others(2, 10) == []


def test_a_file_that_is_missing_open_to_others_or_no_database_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    with pytest.raises(KeysMissing, match=r"There is no .*data_keys\.sqlite"):
        store.find([_name(1)])
    store.put([_key(_name(1))])
    store.path.chmod(0o640)
    with pytest.raises(KeysMissing, match=r"can be read by others\. chmod 600"):
        store.find([_name(1)])
    store.path.write_bytes(b"something else, of some length" * 10)
    store.path.chmod(0o600)
    with pytest.raises(KeysMissing, match="cannot be used: file is not a database"):
        store.find([_name(1)])
