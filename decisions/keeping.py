"""Snapshots of a running engine, written by a forked child, and the state that a starting engine begins with."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features import snapshot, store
from features.store import Place, State
from lakehouse.errors import SnapshotRefused
from lakehouse.fencing import Fence
from lakehouse.log import logger
from lakehouse.settings import Settings, resolve
from lakehouse.topics import TopicIdentity

ENGINE_EXTRA = "decisions"
LOOK_S = 0.02
"""How often a child that is waited for is looked at."""
_NO_SYSTEM_ERROR = 255


def folders(settings: Settings) -> list[Path]:
    """Where snapshots lie: the engine's own and those of the history driver."""
    return [resolve(settings.engine.state_folder), resolve(settings.features.snapshot_folder)]


def newest_good(settings: Settings, topic_id: str, low: int = 0) -> State:
    """The state of the newest snapshot that can be used; the empty one at offset 0 where there is none.

    One that stands behind the engine's own newest comes last: the records in between would never be decided. So does
    one below `low`, the first offset that the log still has. A damaged snapshot is passed over with a warning: an older
    one and the log give the same state.
    """
    log = logger("engine")
    refused = None
    own = max(map(snapshot.position, snapshot.newest([resolve(settings.engine.state_folder)])), default=None)
    found = snapshot.newest(folders(settings))
    for path in sorted(
        found, key=lambda p: (snapshot.position(p) < low, own is not None and snapshot.position(p) > own)
    ):
        try:
            state = store.load(path, settings, topic_id)
        except SnapshotRefused as error:
            log.warning("snapshot not used", reason=error.what)
            refused = refused or error
            continue
        except FileNotFoundError:
            continue  # deleted meanwhile by a run of features.job that left a newer one
        if own is not None and snapshot.position(path) > own:
            log.warning("records are passed over without a decision", start=own, end=snapshot.position(path))
        return state
    if refused is not None:
        raise refused
    return store.new(settings, Place(topic_id, 0, 0))


def place_on_decisions(extra: Mapping[str, Any], decisions: TopicIdentity) -> tuple[Fence, int]:
    """(fence, offset of topic `decisions`) at which a snapshot was made; the very beginning for a history snapshot.

    TopicReplaced when that was another topic than today's.
    """
    held = extra.get(ENGINE_EXTRA)
    if held is not None and "topic_id" in held:
        decisions.check(held["topic_id"], "the engine's snapshot")
    return (Fence(), 0) if held is None else (Fence(held["epoch"], held["decided"]), held["since"])


class Keeper:
    """Writes a snapshot every so often without stopping the engine for longer than a fork."""

    def __init__(self, settings: Settings, next_offset: int) -> None:
        self._folder = resolve(settings.engine.state_folder)
        self._interval_s = settings.engine.snapshot_interval_s
        self._longest_s = settings.engine.snapshot_longest_s
        self._kept = settings.engine.snapshots_kept
        self._child: int | None = None
        self._ended = False
        self._last = time.monotonic()
        self._saved_offset = next_offset
        self._log = logger("engine")

    def due(self, next_offset: int) -> bool:
        """Whether it is time, something has happened, and the last child is done."""
        self.reap()
        moved = next_offset > self._saved_offset
        return moved and self._child is None and time.monotonic() - self._last >= self._interval_s

    def reap(self, wait: bool = False) -> None:
        """Notice the end of the last child; one that hangs is ended, else none would ever follow it."""
        while self._child is not None:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                self._child = None
                if status:
                    self._saved_offset = -1
                    self._log.warning("snapshot failed", reason=_reason(os.waitstatus_to_exitcode(status)))
                else:
                    self._drop_old()
                return
            if not self._ended and time.monotonic() - self._last > self._longest_s:
                self._ended = True
                self._log.warning("a snapshot hangs and is ended", pid=self._child, longest_s=self._longest_s)
                os.kill(self._child, signal.SIGKILL)
            if not wait:
                return
            time.sleep(LOOK_S)

    def save(self, state: State) -> float:
        """Fork a child that writes the state; seconds for which this process stood still."""
        began = time.monotonic()
        self._drop_torn()
        self._last, self._saved_offset = began, state.place.next_offset
        child = os.fork()
        if child == 0:
            status = _NO_SYSTEM_ERROR
            try:
                self._write(state)
                status = 0
            except OSError as error:
                status = error.errno or status
            finally:
                os._exit(status)
        self._child, self._ended = child, False
        return time.monotonic() - began

    def save_now(self, state: State) -> None:
        """Write the state in this process."""
        self.reap(wait=True)
        if state.place.next_offset > self._saved_offset:
            self._drop_torn()
            self._write(state)
            self._saved_offset = state.place.next_offset
            self._drop_old()

    def _write(self, state: State) -> None:
        meta, arrays = store.saved(state)
        snapshot.write(self._folder / snapshot.file_name(state.place.next_offset), meta, arrays)

    def _drop_old(self) -> None:
        for path in snapshot.newest([self._folder])[self._kept :]:
            path.unlink(missing_ok=True)

    def _drop_torn(self) -> None:
        """Delete what writers left that were killed: their parts of snapshots must not take the room of whole ones."""
        for torn in self._folder.glob(f"*{snapshot.TORN}"):
            torn.unlink(missing_ok=True)


def _reason(code: int) -> str:
    """Why a child ended with an exit code other than zero."""
    if code < 0:
        return f"ended by signal {-code}"
    return f"exit code {code}" if code == _NO_SYSTEM_ERROR else os.strerror(code)
