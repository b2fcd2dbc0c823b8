"""The audit trail on disk: several processes, kills, torn lines, and what its tool says."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakehouse import keys, signing, trail
from lakehouse import settings as conf
from lakehouse.chain import Event
from lakehouse.errors import KeysMissing, SettingsError, TrailBroken
from lakehouse.settings import Settings
from lakehouse.trail import Place


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a trail of their own."""
    keys.create(tmp_path / "keys")
    return settings.model_copy(
        update={
            "keys": settings.keys.model_copy(update={"folder": tmp_path / "keys"}),
            "trail": settings.trail.model_copy(
                update={"folder": tmp_path / "trail", "heads_folder": tmp_path / "second" / "place"}
            ),
        }
    )


def _report(settings: Settings) -> tuple[int, list[str], list[str]]:
    report = trail.verified(trail.place_of(settings), settings.keys.folder / signing.TRUSTED)
    return report.entries, report.problems, report.notes


def _told(settings: Settings) -> list[tuple[int, str, str]]:
    return [(e.sequence, e.action, e.subject) for e in trail.entries(trail.place_of(settings))]


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "FRAUDLAKE__KEYS__FOLDER": str(settings.keys.folder),
        "FRAUDLAKE__TRAIL__FOLDER": str(settings.trail.folder),
        "FRAUDLAKE__TRAIL__HEADS_FOLDER": str(settings.trail.heads_folder),
        "FRAUDLAKE__LAKE__ROOT": settings.lake.root,
    }


def _tool(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lakehouse.trail", *arguments],
        env=_environment(settings),
        capture_output=True,
        text=True,
    )


APPENDING = """
import sys
from lakehouse import settings, trail
conf = settings.load()
for number in range(int(sys.argv[2])):
    print(trail.record(conf, "test.done", f"{sys.argv[1]}-{number}", {"number": number}).sequence, flush=True)
"""


def _appending(settings: Settings, name: str, times: int, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", APPENDING, name, str(times)],
        env={**_environment(settings), **environment},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_entries_follow_each_other_and_say_who_when_and_what(here: Settings) -> None:
    first = trail.record(here, "job.began", "silver.job", {"run_id": "r1"})
    second = trail.record(here, "job.ended", "silver.job", {"run_id": "r1", "exit_code": 0})
    assert (first.sequence, first.previous) == (1, "0" * 64)
    assert (second.sequence, second.previous) == (2, first.head.digest)
    assert list(trail.entries(trail.place_of(here))) == [first, second]
    assert second.actor == trail.actor()
    assert second.time.endswith("Z")
    assert _report(here) == (2, [], [])


def test_the_heads_lie_in_the_second_place(here: Settings) -> None:
    made = [trail.record(here, "a", "b", {}) for _ in range(3)]
    lines = (here.trail.heads_folder / "heads.jsonl").read_bytes().splitlines()
    assert lines == [entry.head.line for entry in made]


def test_processes_that_append_at_once_make_one_chain(here: Settings) -> None:
    writers = [_appending(here, f"w{number}", 40) for number in range(4)]
    answers = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert sorted(int(text) for lines in answers for text in lines) == list(range(1, 161))
    assert _report(here) == (160, [], [])
    for number, lines in enumerate(answers):
        told = {sequence: subject for sequence, _, subject in _told(here)}
        assert [told[int(text)] for text in lines] == [f"w{number}-{i}" for i in range(40)]


def test_processes_that_are_killed_lose_nothing_that_they_said(here: Settings, seed: int) -> None:
    draw = random.Random(seed)
    said: dict[int, str] = {}
    for generation in range(8):
        writers = [_appending(here, f"g{generation}w{number}", 100_000) for number in range(2)]
        assert writers[0].stdout is not None
        first = writers[0].stdout.readline()
        time.sleep(draw.uniform(0, 0.15))
        for writer in writers:
            os.killpg(writer.pid, signal.SIGKILL)
        for number, writer in enumerate(writers):
            assert writer.stdout is not None
            with writer.stdout:
                text = (first if number == 0 else "") + writer.stdout.read()
            writer.wait(timeout=60)
            for at, line in enumerate(text.splitlines()):
                said[int(line)] = f"g{generation}w{number}-{at}"
    trail.record(here, "a", "b", {})
    count, problems, _ = _report(here)
    assert problems == []
    told = {sequence: subject for sequence, _, subject in _told(here)}
    assert len(said) > 8
    assert {sequence: told[sequence] for sequence in said} == said
    assert sorted(told) == list(range(1, count + 1))


def test_a_process_that_is_killed_between_entry_and_copy_leaves_the_copy_to_the_next_one(here: Settings) -> None:
    trail.record(here, "a", "first", {})
    writer = _appending(here, "w", 1, FRAUDLAKE_CRASH_AT="trail-entry-written")
    assert writer.communicate(timeout=60)[0] == ""
    assert writer.returncode == -signal.SIGKILL
    assert _report(here) == (2, [], [])
    trail.record(here, "a", "third", {})
    assert [sequence for sequence, _, _ in _told(here)] == [1, 2, 3]
    assert _report(here) == (3, [], [])
    assert len((here.trail.heads_folder / "heads.jsonl").read_bytes().splitlines()) == 3


def test_wherever_a_line_is_torn_the_trail_goes_on_and_says_so(here: Settings, tmp_path: Path) -> None:
    place = trail.place_of(here)
    signer = signing.signer(here.keys.folder / "trail.pem")
    trusted = here.keys.folder / signing.TRUSTED
    first = trail.record(here, "a", "first", {})
    whole = trail.record(here, "a", "second", {}).line
    for length in range(len(whole) + 1):
        torn = Place(tmp_path / str(length) / "trail", tmp_path / str(length) / "heads")
        for folder in (torn.folder, torn.heads_folder):
            folder.mkdir(parents=True)
        torn.entries.write_bytes(first.line + b"\n" + whole[:length])
        torn.heads.write_bytes(place.heads.read_bytes().splitlines(keepends=True)[0])
        assert trail.verified(torn, trusted).problems == []
        for _ in range(2):
            trail.appended(torn, signer, Event("2026-01-31T12:00:00.000Z", "me", "a", "next", {}))
        told = [entry.action for entry in trail.entries(torn)]
        # Nothing of it, a piece of it, all of it but the line's end.
        assert told == {0: ["a"] * 3, len(whole): ["a"] * 4}.get(length, ["a", "trail.repaired", "a", "a"])
        assert torn.entries.read_bytes().startswith(first.line + b"\n" + whole[:length])
        report = trail.verified(torn, trusted)
        assert report.problems == []
        assert len(report.notes) == (0 < length < len(whole))


def test_a_trail_whose_tail_was_cut_goes_on_and_the_cut_is_found_for_ever(here: Settings) -> None:
    for _ in range(4):
        trail.record(here, "a", "b", {})
    path = trail.place_of(here).entries
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert _report(here)[1] == ["the trail ends at entry 2, a copied head tells of entry 4: its tail was cut"]
    for _ in range(3):
        trail.record(here, "a", "b", {})
    assert [action for _, action, _ in _told(here)] == ["a", "a", "trail.heads_differ", "a", "a", "a"]
    _, problems, notes = _report(here)
    assert problems == [f"entry {n} is not the one of its copied head (line {n})" for n in (3, 4)]
    assert notes == ["line 3: the copied heads did not end where the trail ended"]


def test_a_trail_whose_copies_were_moved_away_says_so_and_goes_on(here: Settings) -> None:
    for _ in range(3):
        trail.record(here, "a", "b", {})
    shutil.rmtree(here.trail.heads_folder)
    assert _report(here)[1] == [
        "the copied heads end at entry 0, the trail at 3: a tail that was cut behind it would not show"
    ]
    trail.record(here, "a", "b", {})
    assert _report(here)[1:] == ([], ["line 4: the copied heads did not end where the trail ended"])


def test_a_long_line_before_the_end_is_found_too(here: Settings) -> None:
    trail.record(here, "a", "x" * 200_000, {})
    assert trail.record(here, "a", "b", {}).sequence == 2
    assert _report(here) == (2, [], [])


def test_verify_needs_the_public_key_only(here: Settings, tmp_path: Path) -> None:
    for _ in range(3):
        trail.record(here, "a", "b", {})
    public = tmp_path / "public.json"
    shutil.move(here.keys.folder / signing.TRUSTED, public)
    shutil.rmtree(here.keys.folder)
    found = _tool(here, "verify", "--trusted", str(public))
    assert (found.returncode, found.stdout) == (0, "3 entries, as they were written\n")
    path = trail.place_of(here).entries
    path.write_bytes(path.read_bytes().replace(b'"sequence":2', b'"sequence":7'))
    found = _tool(here, "verify", "--trusted", str(public))
    assert found.returncode == 1
    assert found.stdout.startswith("line 2: altered or inserted")
    assert found.stdout.endswith("2 entries, NOT as they were written\n")


def test_show_filters(here: Settings) -> None:
    place, signer = trail.place_of(here), signing.signer(here.keys.folder / "trail.pem")
    for hour, (who, action, subject) in enumerate(
        [
            ("ann@a", "job.began", "silver.job"),
            ("bob@b", "control.signed", "model version 1"),
            ("ann@a", "job.ended", "x"),
        ]
    ):
        trail.appended(place, signer, Event(f"2026-01-31T0{hour}:00:00.000Z", who, action, subject, {"n": hour}))

    def shown(*filters: str) -> list[str]:
        return [line.split()[0] for line in _tool(here, "show", *filters).stdout.splitlines()]

    assert _tool(here, "show", "--last", "1").stdout == '     3 2026-01-31T02:00:00.000Z ann@a job.ended x {"n":2}\n'
    assert shown() == ["1", "2", "3"]
    assert shown("--action", "job") == ["1", "3"]
    assert shown("--actor", "bob") == ["2"]
    assert shown("--subject", "silver") == ["1"]
    assert shown("--since", "2026-01-31T01:00:00Z", "--until", "2026-01-31T02:00:00Z") == ["2"]


def test_what_cannot_be_recorded_is_refused(here: Settings, tmp_path: Path) -> None:
    (here.keys.folder / "trail.pem").rename(tmp_path / "trail.pem")
    with pytest.raises(KeysMissing, match=r"There is no .*trail\.pem\. `make keys`"):
        trail.record(here, "a", "b", {})
    (tmp_path / "trail.pem").rename(here.keys.folder / "trail.pem")
    here.trail.heads_folder.parent.write_text("a file where a folder should be")
    with pytest.raises(TrailBroken, match=r"cannot be written: Not a directory"):
        trail.record(here, "a", "b", {})


def test_the_trail_lies_outside_of_the_lake_and_apart_from_its_heads(here: Settings) -> None:
    def placed(**changes: Path) -> Settings:
        return here.model_copy(update={"trail": here.trail.model_copy(update=changes)})

    lake = Path(conf.lake_root(here))
    with pytest.raises(SettingsError, match=r"trail\.heads_folder lies in the lake"):
        trail.place_of(placed(heads_folder=lake / "heads"))
    with pytest.raises(SettingsError, match=r"trail\.folder lies in the lake"):
        trail.place_of(placed(folder=lake))
    with pytest.raises(SettingsError, match=r"trail\.heads_folder is trail\.folder"):
        trail.place_of(placed(heads_folder=here.trail.folder))


def test_keys_that_are_made_or_made_again_are_entered(here: Settings) -> None:
    shutil.rmtree(here.keys.folder)
    keys.provide(here)
    made = [(action, subject) for _, action, subject in _told(here)]
    assert set(made) == {("key.made", path.name) for path in here.keys.folder.iterdir()}
    (here.keys.folder / "approver.pem").unlink()
    keys.provide(here)
    assert _told(here)[-2:] == [(11, "key.rotated", "approver.pem"), (12, "key.made", "trusted.json")]
    assert keys.provide(here) == []
    everything = trail.place_of(here).entries.read_bytes()
    for path in here.keys.folder.glob("*.key"):
        assert path.read_bytes() not in everything
    assert _report(here)[1] == []
