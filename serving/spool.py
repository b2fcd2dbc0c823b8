"""Payments that the log could not take, with what they were answered: sealed files on this disk, written to the end.

A file is a head (mark, master key version, id of the file), then frames: length, checksum and time, then the sealed
payment and answer. The seal is bound to the file's id and the frame's place. `drained` says how far they were written
to the log; a file that was drained is deleted, so that nothing lies here while the log is well. A start never writes on
in a file that it finds: what a crash tore stays the end of that file, and is counted.
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from lakehouse.crash import crash_point
from lakehouse.crypto import RecordSeal
from lakehouse.errors import ContractBroken, KeysMissing, SettingsError, StoreUnavailable
from lakehouse.keys import KeySource, write_private
from lakehouse.log import logger
from lakehouse.moments import now_ms

MARK = b"FLSPOOL1"
PURPOSE = "spool"
HEAD = struct.Struct(">8sI16s")
FRAME = struct.Struct(">IIQ")
PAIR = struct.Struct(">I")
FILE_BYTES = 8 << 20
"""So many bytes and the next file begins: drained files are deleted whole."""
MOST_BYTES_A_RECORD = 1 << 20
"""Far above what the API takes; a length beyond it is none."""
NAME, DAMAGED = "*.spool", ".damaged"
DRAINED, LOCK = "drained", "lock"


@dataclass(frozen=True, order=True)
class Spot:
    """A place in the spool: number of a file, and an offset in it."""

    file: int
    offset: int


@dataclass(frozen=True)
class Spooled:
    """A payment and its answer as records of the log; `after` is the spot behind them, `at_ms` when they came."""

    payment: bytes
    answer: bytes
    at_ms: int
    after: Spot


@dataclass
class _File:
    """A file of the spool: its frames as (offset, time) in order, and where the last whole one ends."""

    number: int
    path: Path
    seal: RecordSeal
    identity: bytes
    end: int = HEAD.size
    size: int = HEAD.size
    frames: list[tuple[int, int]] = field(default_factory=list)
    unreadable: int = 0
    """Bytes between whole frames: not what a crash leaves."""

    def bound(self, offset: int) -> bytes:
        """What binds a seal to its place."""
        return f"spool/{self.identity.hex()}/{offset}".encode()


class Spool:
    """The spool of one process; its methods may be called by several threads. At most `most_bytes` on the disk."""

    def __init__(self, folder: Path, keys: KeySource, most_bytes: int) -> None:
        self._folder, self._keys, self._most = folder, keys, most_bytes
        self._mutex = threading.Lock()
        self._open: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._alone = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(f"spool.folder {folder} cannot be used: {error.strerror}.", "Mend it.") from None
        try:
            fcntl.flock(self._alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._alone)
            raise SettingsError(
                f"spool.folder {folder} is in use by another process.", "Give each API a folder of its own."
            ) from None
        self.torn_bytes = 0
        """Found behind the last whole record of a file: what a crash leaves."""
        self.damaged_bytes = 0
        """Found elsewhere, or sealed and not to be opened: no crash explains it."""
        self._done = self._read_drained()
        self._files = [found for path in sorted(folder.glob(NAME)) if (found := self._found(path)) is not None]
        self._drop()

    @property
    def records(self) -> int:
        """Payments that are not drained."""
        with self._mutex:
            return sum(len(found.frames) - self._first(found) for found in self._files)

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk, of files that are not wholly drained."""
        with self._mutex:
            return sum(found.size for found in self._files)

    @property
    def age_s(self) -> float:
        """Seconds since the oldest payment that is not drained came; 0 without one."""
        with self._mutex:
            oldest = next((at_ms for _, _, at_ms in self._waiting()), None)
        return 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)

    def _waiting(self) -> Iterator[tuple[_File, int, int]]:
        for found in self._files:
            for at in range(self._first(found), len(found.frames)):
                yield found, *found.frames[at]

    def _first(self, found: _File) -> int:
        """Which frame of a file is the first that is not drained; their number where none is left."""
        if found.number != self._done.file:
            return 0 if found.number > self._done.file else len(found.frames)
        return bisect_left(found.frames, (self._done.offset, 0))

    def put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Take payments with their answers in; on the disk when this returns, none of them at StoreUnavailable."""
        with self._mutex:
            needed = sum(len(payment) + len(answer) + 64 for payment, answer in pairs) + HEAD.size
            if sum(found.size for found in self._files) + needed > self._most:
                raise StoreUnavailable(
                    f"The spool in {self._folder} is full ({self._most} bytes).", "Start the broker: it drains then."
                )
            try:
                self._append(pairs)
            except OSError as error:
                self._give_up()
                raise StoreUnavailable(
                    f"The spool in {self._folder} cannot be written: {error.strerror}.", "Make room or mend the rights."
                ) from None

    def _append(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        if self._open is None or self._files[-1].end >= FILE_BYTES:
            self._begin()
        assert self._open is not None
        current, now = self._files[-1], now_ms()
        frames, parts, offset = [], [], current.end
        for payment, answer in pairs:
            sealed = current.seal.seal([PAIR.pack(len(payment)) + payment + answer], [current.bound(offset)])[0]
            parts.append(FRAME.pack(len(sealed), _checksum(sealed, now), now) + sealed)
            frames.append((offset, now))
            offset += FRAME.size + len(sealed)
        _write(self._open, b"".join(parts))
        crash_point("spool-written")
        os.fsync(self._open)
        current.frames += frames
        current.end = current.size = offset

    def _begin(self) -> None:
        """A new file, whose name is on the disk too."""
        self._shut()
        number = max(self._files[-1].number if self._files else 0, self._done.file) + 1
        path, identity = self._folder / f"{number:012}.spool", os.urandom(16)
        version = self._keys.keyring().current
        head = HEAD.pack(MARK, version, identity)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write(handle, head)
            os.fsync(handle)
            _sync(self._folder)
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        self._open = handle
        self._files.append(_File(number, path, self._seal(version), identity))

    def _give_up(self) -> None:
        """Take back what of a failed call is in the file, so that nothing is drained that nobody was told of."""
        if self._open is None:
            return
        try:
            os.ftruncate(self._open, self._files[-1].end)
            os.fsync(self._open)
        except OSError as error:
            logger("api").error("what the spool could not write may be in it after a restart", reason=error.strerror)
        self._shut()

    def _shut(self) -> None:
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def head(self, at_most: int) -> list[Spooled]:
        """The oldest payments that are not drained, at most so many; one that does not open is passed over, loudly."""
        while True:
            with self._mutex:
                wanted = list(islice(self._waiting(), at_most))
            read = [self._read(found, offset, at_ms) for found, offset, at_ms in wanted]
            out = [one for one in read if one is not None]
            if out or not wanted:
                return out

    def each(self) -> Iterator[Spooled]:
        """Every payment that is not drained, one after the other."""
        with self._mutex:
            wanted = list(self._waiting())
        for found, offset, at_ms in wanted:
            if (one := self._read(found, offset, at_ms)) is not None:
                yield one

    def _read(self, found: _File, offset: int, at_ms: int) -> Spooled | None:
        with found.path.open("rb") as file:
            file.seek(offset)
            length, _, _ = FRAME.unpack(file.read(FRAME.size))
            sealed = file.read(length)
        try:
            (opened,) = found.seal.open([sealed], [found.bound(offset)])
        except ContractBroken:
            with self._mutex:
                found.frames.remove((offset, at_ms))
                self._damaged(found, len(sealed), "a record was altered")
                self._drop()
            return None
        (cut,) = PAIR.unpack_from(opened)
        after = Spot(found.number, offset + FRAME.size + length)
        return Spooled(opened[PAIR.size : PAIR.size + cut], opened[PAIR.size + cut :], at_ms, after)

    def drained(self, after: Spot) -> None:
        """Everything before a spot is on the log; what it was in is deleted."""
        with self._mutex:
            write_private(self._folder / DRAINED, f"{after.file} {after.offset}".encode())
            self._done = after
            crash_point("spool-drained")
            self._drop()

    def _drop(self) -> None:
        """Delete what was drained; a file with damage is kept beside, for people."""
        while self._files and self._all_drained(self._files[0]):
            gone = self._files.pop(0)
            if not self._files:
                self._shut()
            if gone.unreadable:
                gone.path.rename(gone.path.with_suffix(DAMAGED))
            else:
                gone.path.unlink(missing_ok=True)

    def _all_drained(self, found: _File) -> bool:
        return self._first(found) == len(found.frames)

    def close(self) -> None:
        """Let go of the folder."""
        with self._mutex:
            self._shut()
            os.close(self._alone)

    def _read_drained(self) -> Spot:
        try:
            file, offset = (self._folder / DRAINED).read_text().split()
            return Spot(int(file), int(offset))
        except (FileNotFoundError, ValueError):
            # Drained again from the beginning: the engine removes what comes twice.
            return Spot(0, 0)

    def _seal(self, version: int) -> RecordSeal:
        return RecordSeal(self._keys.keyring().derive(PURPOSE, version), f"v{version}")

    def _found(self, path: Path) -> _File | None:
        """A file that was left, looked through; None where not even its head was written."""
        raw = path.read_bytes()
        if len(raw) < HEAD.size:
            path.unlink()
            return None
        mark, version, identity = HEAD.unpack_from(raw)
        if mark != MARK or not path.stem.isdigit():
            raise KeysMissing(f"{path} is no file of the spool.", "Move it away; what it holds is not drained.")
        found = _File(int(path.stem), path, self._seal(version), identity, size=len(raw))
        at = HEAD.size
        while at < len(raw):
            frame = _frame(raw, at)
            if frame is None:
                # Its length may be what is wrong: the next whole frame is looked for, byte by byte.
                at += 1
                continue
            length, at_ms = frame
            found.unreadable += at - found.end
            found.frames.append((at, at_ms))
            at = found.end = at + length
        torn = len(raw) - found.end
        if found.unreadable:
            self._damaged(found, found.unreadable, "there are bytes between records that are none")
        if torn:
            self.torn_bytes += torn
            logger("api").warning(
                "the end of a spool file is torn: what a crash or power cut leaves, nobody was answered for it",
                file=path.name,
                bytes=torn,
            )
        return found

    def _damaged(self, found: _File, size: int, why: str) -> None:
        found.unreadable = max(found.unreadable, size)
        self.damaged_bytes += size
        logger("api").error(
            "a spool file is damaged; payments in it are lost to the log unless they are sent again. It is kept.",
            file=found.path.with_suffix(DAMAGED).name,
            bytes=size,
            reason=why,
        )


def _checksum(sealed: bytes, at_ms: int) -> int:
    return zlib.crc32(sealed, zlib.crc32(struct.pack(">IQ", len(sealed), at_ms)))


def _frame(raw: bytes, at: int) -> tuple[int, int] | None:
    """(bytes of the frame, its time) at an offset; None where no whole frame is."""
    if at + FRAME.size > len(raw):
        return None
    length, checksum, at_ms = FRAME.unpack_from(raw, at)
    end = at + FRAME.size + length
    if not 0 < length <= MOST_BYTES_A_RECORD or end > len(raw):
        return None
    return (end - at, at_ms) if checksum == _checksum(raw[at + FRAME.size : end], at_ms) else None


def _write(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
