"""The audit trail: who did what and when, append-only, hash-chained, with signed heads copied to a second place.

    python -m lakehouse.trail verify --trusted trusted.json
    python -m lakehouse.trail show --action control --since 2026-01-31T00:00:00Z

One trail a machine: `trail.jsonl` in trail.folder, its heads in `heads.jsonl` of trail.heads_folder. An entry that is
returned is on both disks. What a crash tore stays where it is, and the next entry tells of it. `verify` needs public
keys only.
"""

import argparse
import fcntl
import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from lakehouse import settings as conf
from lakehouse import signing
from lakehouse.chain import (
    HEADS_DIFFER,
    REPAIRED,
    ROLE,
    Entry,
    Event,
    Report,
    checked,
    entry_after,
    entry_of,
    head_of,
    torn,
)
from lakehouse.crash import crash_point
from lakehouse.errors import FraudlakeError, SettingsError, TrailBroken
from lakehouse.moments import moment_ms
from lakehouse.settings import Settings, resolve
from lakehouse.signing import Signer

ENTRIES, HEADS, LOCK = "trail.jsonl", "heads.jsonl", "lock"
FIRST_LOOK_BYTES = 1 << 14
"""Read back from a file's end to find its last line; entries have a few hundred bytes."""

Line = TypeVar("Line")
Details = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Place:
    """Where a trail and the copies of its heads lie."""

    folder: Path
    heads_folder: Path

    @property
    def entries(self) -> Path:
        """The trail's file."""
        return self.folder / ENTRIES

    @property
    def heads(self) -> Path:
        """The file of the copied heads."""
        return self.heads_folder / HEADS


def place_of(settings: Settings) -> Place:
    """The place that the settings name; SettingsError when one disk folder would hold it and what it watches."""
    place = Place(resolve(settings.trail.folder), resolve(settings.trail.heads_folder))
    lake = Path(conf.lake_root(settings).removeprefix("file://"))
    for name, folder in (("trail.folder", place.folder), ("trail.heads_folder", place.heads_folder)):
        if lake in (folder, *folder.parents):
            raise SettingsError(f"{name} lies in the lake, {lake}.", "Name a folder outside of it.")
    if place.folder == place.heads_folder:
        raise SettingsError("trail.heads_folder is trail.folder.", "The copies belong to another place.")
    return place


def actor() -> str:
    """Who runs this process: account and machine; not what the environment says, which anybody can set."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an id without an account
        account = str(os.getuid())
    return f"{account}@{socket.gethostname()}"


def record(settings: Settings, action: str, subject: str, details: Details) -> Entry:
    """Append an entry of now; it is on both disks when this returns.

    `details` hold no personal values and no secrets. KeysMissing without a signing key, TrailBroken when a place cannot
    be written: then what was to be recorded must not happen.
    """
    signer = signing.signer(resolve(settings.keys.folder) / f"{ROLE}.pem")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return appended(place_of(settings), signer, Event(now, actor(), action, subject, dict(details)))


def appended(place: Place, signer: Signer, event: Event) -> Entry:
    """Append an event; the entry it became."""
    try:
        for folder in (place.folder, place.heads_folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        with _alone(place.folder / LOCK):
            return _appended(place, signer, event)
    except OSError as error:
        raise TrailBroken(
            f"The audit trail in {place.folder}, or its heads in {place.heads_folder}, cannot be written: "
            f"{error.strerror}.",
            "Make room or mend the rights; nothing that belongs into the trail is done until then.",
        ) from None


@contextmanager
def _alone(lock: Path, reading: bool = False) -> Iterator[None]:
    """Nobody else on this machine appends meanwhile; a process that dies lets go."""
    if reading and not lock.exists():  # a copy of a trail, to which nobody appends
        yield
        return
    handle = os.open(lock, os.O_RDONLY if reading else os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if reading else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _appended(place: Place, signer: Signer, event: Event) -> Entry:
    def put(what: Event, after: Entry | None) -> Entry:
        entry = entry_after(after, what, signer)
        _write(place.entries, entry.line)
        crash_point("trail-entry-written")
        _write(place.heads, entry.head.line)
        return entry

    def told(action: str, details: dict[str, Any]) -> Event:
        return Event(event.time, event.actor, action, ENTRIES, details)

    last, behind = _last(place.entries, entry_of)
    copied, _ = _last(place.heads, head_of)
    if last is not None and (0 if copied is None else copied.sequence) == last.sequence - 1:
        _write(place.heads, last.head.line)  # a crash came between entry and copy
        copied = last.head
    differs = copied != (None if last is None else last.head)
    if behind:
        last = put(told(REPAIRED, torn(behind)), last)
    if differs:
        last = put(told(HEADS_DIFFER, {"copied_sequence": 0 if copied is None else copied.sequence}), last)
    return put(event, last)


def _last(path: Path, read: Callable[[bytes], Line | None]) -> tuple[Line | None, bytes]:
    """The last good line of a file, and what lies behind it without its line end; no line when there is none."""
    if not path.exists():
        return None, b""
    with path.open("rb") as file:
        size, look = path.stat().st_size, FIRST_LOOK_BYTES
        while True:
            start = max(0, size - look)
            file.seek(start)
            raw = file.read()
            # What was cut at the front is looked at when there is nothing better.
            pieces = raw.split(b"\n")
            for at in range(len(pieces) - 1, -1 if start == 0 else 0, -1):
                found = read(pieces[at])
                if found is not None:
                    return found, b"\n".join(pieces[at + 1 :]).removesuffix(b"\n")
            if start == 0:
                return None, raw.removesuffix(b"\n")
            look *= 8


def _write(path: Path, line: bytes) -> None:
    """A line at the end of a file, on disk when this returns; a torn one before it gets its end."""
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        size = os.fstat(handle).st_size
        whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
        rest = (b"" if whole else b"\n") + line + b"\n"
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def verified(place: Place, trusted: Path) -> Report:
    """What is wrong with a trail and where; KeysMissing without the public keys, TrailBroken when there is no trail."""
    trust = signing.trust_in(trusted)
    if not place.entries.exists() and not place.heads.exists():
        raise TrailBroken(f"There is no trail in {place.folder}.", "The first job or `make keys` begins it.")
    with _alone(place.folder / LOCK, reading=True):
        return checked(_lines(place.entries), _lines(place.heads), trust)


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def entries(place: Place) -> Iterator[Entry]:
    """The entries of a trail, oldest first; what is none is passed over (`verified` names it)."""
    for line in _lines(place.entries):
        entry = entry_of(line.removesuffix(b"\n"))
        if entry is not None:
            yield entry


def _wanted(found: Iterable[Entry], given: argparse.Namespace) -> Iterator[Entry]:
    for entry in found:
        at = moment_ms(entry.time)
        if (
            entry.action.startswith(given.action)
            and given.actor in entry.actor
            and given.subject in entry.subject
            and (given.since is None or at >= given.since)
            and (given.until is None or at < given.until)
        ):
            yield entry


def _show(place: Place, given: argparse.Namespace) -> int:
    found = list(_wanted(entries(place), given))
    for entry in found[-given.last :] if given.last else found:
        if given.json:
            print(entry.line.decode())
        else:
            details = orjson.dumps(dict(entry.details)).decode()
            print(f"{entry.sequence:6} {entry.time} {entry.actor} {entry.action} {entry.subject} {details}")
    return 0


def _verify(place: Place, trusted: Path) -> int:
    report = verified(place, trusted)
    print(*report.notes, *report.problems, sep="\n", end="\n" if report.notes or report.problems else "")
    print(
        f"{report.entries:,} entries, {'as they were written' if not report.problems else 'NOT as they were written'}"
    )
    return int(bool(report.problems))


def main(argv: Sequence[str]) -> int:
    """Verify the trail (1 when something is wrong) or show its entries."""
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.trail", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="what", required=True)
    verify = actions.add_parser("verify", help="whether every entry is as it was written; no secret is needed")
    verify.add_argument(
        "--trusted", type=Path, metavar="FILE", help="public keys (default: trusted.json of keys.folder)"
    )
    show = actions.add_parser("show", help="the entries, oldest first")
    show.add_argument("--action", default="", help="those whose action begins so: job, rerun, control, key, ...")
    show.add_argument("--actor", default="", help="those whose actor holds this")
    show.add_argument("--subject", default="", help="those whose subject holds this")
    show.add_argument("--since", type=moment_ms, metavar="TIME", help="not before that, such as 2026-01-31T12:00:00Z")
    show.add_argument("--until", type=moment_ms, metavar="TIME", help="before that")
    show.add_argument("--last", type=int, metavar="N", help="only the last so many of them")
    show.add_argument("--json", action="store_true", help="as they are written")
    for action in (verify, show):
        action.add_argument("--env")
        action.add_argument("--folder", type=Path, help="default: trail.folder")
        action.add_argument("--heads-folder", type=Path, metavar="FOLDER", help="default: trail.heads_folder")
    given = parser.parse_args(argv)
    settings = conf.load(given.env)
    place = place_of(settings)
    place = Place(given.folder or place.folder, given.heads_folder or place.heads_folder)
    if given.what == "show":
        return _show(place, given)
    return _verify(place, given.trusted or resolve(settings.keys.folder) / signing.TRUSTED)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FraudlakeError as error:
        sys.exit(str(error))
