"""A chain of entries: whatever is done to it afterwards is found, and where."""

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import chain, keys, signing
from lakehouse.chain import Entry, Event, Report, checked, entry_after, entry_of, head_of, torn
from lakehouse.signing import Signer, Trust


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("keys")
    signing.create(made, ("trail", "author"), keys.write_private)
    return made


@pytest.fixture(scope="module")
def signer(folder: Path) -> Signer:
    return signing.signer(folder / "trail.pem")


@pytest.fixture(scope="module")
def trust(folder: Path) -> Trust:
    return signing.trust(folder)


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), WORDS
)
EVENTS = st.builds(Event, WORDS, WORDS, WORDS, WORDS, st.dictionaries(WORDS, VALUES, max_size=4))


def written(events: list[Event], signer: Signer) -> list[Entry]:
    """The events as a chain."""
    found: list[Entry] = []
    for event in events:
        found.append(entry_after(found[-1] if found else None, event, signer))
    return found


def lines(entries: list[Entry]) -> list[bytes]:
    return [entry.line + b"\n" for entry in entries]


def heads(entries: list[Entry]) -> list[bytes]:
    return [entry.head.line + b"\n" for entry in entries]


def looked_at(raw: list[bytes], copied: list[Entry], trust: Trust) -> Report:
    return checked(raw, heads(copied), trust)


def first_line(report: Report) -> int:
    """The number of the first line that is named."""
    found = re.match(r"line (\d+):", report.problems[0])
    assert found, report.problems
    return int(found[1])


@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_a_chain_as_it_was_written_has_no_problem(signer: Signer, trust: Trust, events: list[Event]) -> None:
    entries = written(events, signer)
    assert looked_at(lines(entries), entries, trust) == Report(len(events), [], [])
    assert [entry_of(entry.line) for entry in entries] == entries
    assert [head_of(entry.head.line) for entry in entries] == [entry.head for entry in entries]


@given(st.lists(EVENTS, min_size=1, max_size=6), st.data())
def test_an_edited_byte_is_found(signer: Signer, trust: Trust, events: list[Event], data: st.DataObject) -> None:
    entries = written(events, signer)
    raw = lines(entries)
    at = data.draw(st.integers(0, len(raw) - 1))
    place = data.draw(st.integers(0, len(raw[at]) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value not in (raw[at][place], 10)))
    raw[at] = raw[at][:place] + bytes([byte]) + raw[at][place + 1 :]
    assert first_line(looked_at(raw, entries, trust)) == at + 1


def test_a_signature_written_otherwise_is_an_edit_though_it_decodes_to_the_same_bytes(
    signer: Signer, trust: Trust
) -> None:
    (entry,) = entries = written([Event("", "a", "b", "c", {})], signer)
    told = entry.head.signature
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(told[-3])
    other = told[:-3] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last + 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(told)
    raw = [entry.line.replace(told.encode(), other.encode()) + b"\n"]
    assert first_line(looked_at(raw, entries, trust)) == 1


@given(st.lists(EVENTS, min_size=2, max_size=8), st.data())
def test_a_deleted_line_is_found(signer: Signer, trust: Trust, events: list[Event], data: st.DataObject) -> None:
    entries = written(events, signer)
    at = data.draw(st.integers(0, len(entries) - 2))
    raw = lines(entries)
    del raw[at]
    assert first_line(looked_at(raw, entries, trust)) == at + 1


@given(st.lists(EVENTS, min_size=2, max_size=8), st.data())
def test_a_moved_line_is_found(signer: Signer, trust: Trust, events: list[Event], data: st.DataObject) -> None:
    entries = written(events, signer)
    order = data.draw(st.permutations(range(len(entries))).filter(lambda found: found != sorted(found)))
    raw = lines(entries)
    moved = next(at for at, source in enumerate(order) if at != source)
    assert first_line(looked_at([raw[source] for source in order], entries, trust)) == moved + 1


@given(st.lists(EVENTS, min_size=1, max_size=6), EVENTS, st.data())
def test_an_inserted_line_is_found(
    folder: Path, signer: Signer, trust: Trust, events: list[Event], more: Event, data: st.DataObject
) -> None:
    entries = written(events, signer)
    at = data.draw(st.integers(0, len(entries)))
    before = entries[at - 1] if at else None
    once_more = data.draw(st.sampled_from(entries))
    of_another_role = entry_after(before, more, signing.signer(folder / "author.pem"))
    raw = lines(entries)
    for entry in (once_more, of_another_role):
        assert looked_at([*raw[:at], entry.line + b"\n", *raw[at:]], entries, trust).problems
    text = data.draw(st.binary(max_size=40).filter(lambda found: b"\n" not in found))
    assert first_line(looked_at([*raw[:at], text + b"\n", *raw[at:]], entries, trust)) == at + 1


@given(st.lists(EVENTS, min_size=1, max_size=8), st.data())
def test_a_cut_tail_is_found_by_the_copied_heads(
    signer: Signer, trust: Trust, events: list[Event], data: st.DataObject
) -> None:
    entries = written(events, signer)
    left = data.draw(st.integers(0, len(entries) - 1))
    raw = lines(entries)[:left]
    assert looked_at(raw, entries, trust).problems == [
        f"the trail ends at entry {left}, a copied head tells of entry {len(entries)}: its tail was cut"
    ]
    assert looked_at(raw, entries[:left], trust).problems == []  # without the copies, a cut cannot be seen


@given(st.lists(EVENTS, min_size=2, max_size=6), EVENTS, st.data())
def test_a_chain_that_was_written_anew_from_some_entry_on_is_found(
    signer: Signer, trust: Trust, events: list[Event], other: Event, data: st.DataObject
) -> None:
    """With the signing key of this machine the trail itself can be made again; the copies elsewhere cannot."""
    entries = written(events, signer)
    at = data.draw(st.integers(0, len(entries) - 1).filter(lambda found: events[found] != other))
    again = written([*events[:at], other, *events[at + 1 :]], signer)
    problems = looked_at(lines(again), entries, trust).problems
    assert problems[0] == f"entry {at + 1} is not the one of its copied head (line {at + 1})"


def event(action: str = "a", **details: object) -> Event:
    return Event("2026-01-31T12:00:00.000Z", "somebody@here", action, "something", details)


def test_a_torn_line_is_accepted_only_with_the_entry_that_tells_of_it(signer: Signer, trust: Trust) -> None:
    first, second, third = written([event(), event(), event()], signer)
    fragment = second.line[:70]
    repair = entry_after(first, event(chain.REPAIRED, **torn(fragment)), signer)
    good = [first.line + b"\n", fragment + b"\n", repair.line + b"\n"]
    assert checked(good, heads([first, repair]), trust) == Report(2, [], ["line 2: torn by a crash, as entry 2 says"])
    changed = [good[0], good[1].replace(b"a", b"b"), good[2]]
    assert first_line(checked(changed, heads([first, repair]), trust)) == 2
    gone = [good[0], good[2]]
    assert checked(gone, heads([first, repair]), trust).problems == [
        "line 2: tells of a torn line before it that is not there"
    ]
    untold = [good[0], good[1], entry_after(first, event(), signer).line + b"\n"]
    assert first_line(looked_at(untold, [first], trust)) == 2
    assert third.sequence == 3


def test_a_torn_tail_is_no_problem_and_an_altered_one_is(signer: Signer, trust: Trust) -> None:
    first, second = written([event(), event()], signer)
    raw = [first.line + b"\n", second.line[:70]]
    assert looked_at(raw, [first], trust) == Report(1, [], ["line 2: torn by a crash; the next entry will say so"])
    assert first_line(looked_at(raw, [first, second], trust)) == 2  # a head is copied only behind a whole entry


def test_copies_that_were_altered_or_removed_are_found(signer: Signer, trust: Trust) -> None:
    entries = written([event() for _ in range(4)], signer)
    raw, copied = lines(entries), heads(entries)
    assert checked(raw, copied[:3], trust).problems == []  # a crash between entry and copy
    for wrong, why in (
        (copied[:2], "the copied heads end at entry 2, the trail at 4"),
        ([], "the copied heads end at entry 0, the trail at 4"),
        ([copied[0], b"{}\n", *copied[1:]], "copied heads, line 2: altered or inserted"),
        ([*copied, b"{}\n"], "copied heads, last line: altered or inserted"),
        ([copied[0].replace(b'"sequence":1', b'"sequence":2'), *copied[1:]], "copied heads, line 1: the signature"),
    ):
        assert checked(raw, wrong, trust).problems[0].startswith(why)


def test_a_copy_that_a_crash_tore_is_no_problem_before_the_whole_one(signer: Signer, trust: Trust) -> None:
    entries = written([event() for _ in range(2)], signer)
    copied = heads(entries)
    assert checked(lines(entries), [copied[0], copied[1][:40] + b"\n", copied[1]], trust).problems == []
    assert checked(lines(entries), [copied[0], copied[1][:40]], trust).problems == []
