"""Following the registry: an alias `champion` that people move is a wish, and becomes a promotion where it may.

A version that may not be promoted is tagged with the reason; the serving model stays, and the wish is looked at again
when its approval changes. After a promotion the guard rails are watched, and what breaks them goes back;
so are those of a challenger for as long as it decides an arm of a traffic split.
"""

import time
from collections.abc import Callable
from pathlib import Path

from lakehouse import settings as conf
from lakehouse.errors import BundleRefused, ControlRefused, RegistryUnavailable, Transient
from lakehouse.moments import now_ms
from lakehouse.settings import Settings
from training import traffic
from training.aliases import REFUSED, Aliased, Aliases
from training.approval import APPROVAL
from training.guarding import Watch, split_seen
from training.promoted import promoted
from training.promotion import in_force, promote, rollback

Say = Callable[[str], None]


class Watcher:
    """One look after the other at the registry and at what was promoted."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings, self._say = settings, say
        self._aliases = Aliases(settings)
        self._done: tuple[str, float] | None = None
        """Version that was looked at last, and when its approval was written."""
        self._guard: Watch | None = None
        self._guard_until = 0.0
        self._split: Watch | None = None
        self._left = 0
        """Version of scope `split` that could not be ended; a later one is another split."""
        self._away = self._begun = False

    def look(self) -> None:
        """Promote what may be, refuse what may not, and go back where a guard rail is broken.

        The first look takes up the watch over a promotion that was made before.
        """
        if not self._begun:
            self._take_up()
            self._begun = True
        self._look_at_guard()
        self._look_at_split()
        try:
            wanted = self._aliases.champion()
        except RegistryUnavailable as error:
            if not self._away:
                self._say(f"nothing is promoted, the serving model stays: {error}")
            self._away = True
            return
        self._away = False
        if wanted is None:
            return
        now = (wanted.version, _written(self._settings, wanted.digest))
        if now != self._done:
            self._take(wanted)
            self._done = now

    def close(self) -> None:
        """End the watches over a promotion and over a split."""
        self._unguard()
        if self._split is not None:
            self._split.close()
            self._split = None

    def _unguard(self) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _take(self, wanted: Aliased) -> None:
        if wanted.digest is not None and wanted.digest == in_force(self._settings):
            if self._guard is None or self._guard.digest != wanted.digest:
                self._take_up()
            return
        if wanted.digest is None:
            self._refuse(wanted, "The version names no bundle. Register it by training.job.")
            return
        # Before the promotion: one that is on the log though nobody heard so is watched too.
        guard = Watch(self._settings, wanted.digest)
        try:
            offset = promote(self._settings, wanted.digest)
        except (BundleRefused, ControlRefused) as error:
            guard.close()
            self._refuse(wanted, str(error))
            return
        except Transient:
            self._guarded_by(guard, self._settings.guard.watch_s)
            raise
        self._guarded_by(guard, self._settings.guard.watch_s)
        self._tag(wanted, None)
        self._say(f"version {wanted.version}, model {wanted.digest[:12]}, is in force from offset {offset} on")

    def _take_up(self) -> None:
        """Watch what somebody else, or this command before it was started again, promoted, for what is left of it."""
        found = promoted(self._settings)
        if found is None:
            return
        ago_s = (now_ms() - found.at_ms) / 1000
        left_s = min(self._settings.guard.watch_s, self._settings.guard.watch_s - ago_s)
        if left_s > 0:
            self._guarded_by(Watch(self._settings, found.digest), left_s)
            self._say(f"model {found.digest[:12]} was promoted {ago_s:.0f} s ago, and is watched for {left_s:.0f} s")

    def _guarded_by(self, guard: Watch, for_s: float) -> None:
        self._unguard()
        self._guard, self._guard_until = guard, time.monotonic() + for_s

    def _refuse(self, wanted: Aliased, why: str) -> None:
        self._say(f"version {wanted.version} was refused, the serving model stays: {why}")
        self._tag(wanted, why)

    def _tag(self, wanted: Aliased, why: str | None) -> None:
        try:
            self._aliases.tag(wanted.version, REFUSED, why)
        except RegistryUnavailable as error:
            self._say(f"version {wanted.version} was not tagged: {error.what}")

    def _look_at_guard(self) -> None:
        guard = self._guard
        if guard is None:
            return
        broken = guard.look(0.0)
        if guard.displaced and in_force(self._settings) != guard.digest:
            self._say(f"model {guard.digest[:12]} is no longer in force, and no longer watched")
        elif broken:
            try:
                self._say(taken_back(self._settings, guard.digest, broken))
            except ControlRefused as error:
                self._say(f"not rolled back, though {'; '.join(broken)}: {error}")
        elif time.monotonic() < self._guard_until:
            return
        elif not guard.judged and in_force(self._settings) == guard.digest:
            # Hardly anybody paid so far.
            return
        self._unguard()

    def _look_at_split(self) -> None:
        if self._split is None:
            on = traffic.on(self._settings) if split_seen(self._settings) else None
            if on is None or on.version == self._left:
                return
            self._split = Watch(self._settings, on.challenger)
        watch = self._split
        broken = watch.look(0.0)
        if not broken and not watch.displaced:
            return
        on = traffic.on(self._settings)
        if on is not None and on.challenger == watch.digest:
            if not broken:
                return
            try:
                self._say(split_ended(self._settings, watch.digest, broken))
            except ControlRefused as error:
                self._left = on.version
                self._say(f"the split was not ended, though {'; '.join(broken)}: {error}")
        watch.close()
        self._split = None


def split_ended(settings: Settings, digest: str, broken: list[str]) -> str:
    """End a split because its challenger broke guard rails; what to say of it. ControlRefused where it is not on."""
    reason = "; ".join(broken)
    _, offset = traffic.end(settings, reason, watched=digest)
    return f"the split of model {digest[:12]} ends at offset {offset}: {reason}"


def guarded_split(settings: Settings, digest: str, say: Say) -> bool:
    """Watch the challenger of a split for as long as it is on; whether it stayed within its guard rails."""
    watch = Watch(settings, digest)
    try:
        while True:
            broken = watch.look(settings.guard.look_s)
            if (broken or watch.displaced) and traffic.challenger(settings) != digest:
                return True
            if broken:
                say(split_ended(settings, digest, broken))
                return False
            time.sleep(settings.guard.look_s)
    finally:
        watch.close()


def taken_back(settings: Settings, digest: str, broken: list[str]) -> str:
    """Go back because a model broke guard rails; what to say of it. ControlRefused where it is not in force."""
    reason = "; ".join(broken)
    before, offset = rollback(settings, reason, watched=digest)
    return f"rolled back to model {before[:12]} from offset {offset} on: {reason}"


def guarded(settings: Settings, digest: str, say: Say) -> bool:
    """Watch a model that was just put into force for as long as the settings say; whether it stayed.

    ControlRefused where there were too few payments to judge it by.
    """
    watch, until = Watch(settings, digest), time.monotonic() + settings.guard.watch_s
    try:
        while time.monotonic() < until:
            broken = watch.look(settings.guard.look_s)
            if watch.displaced and in_force(settings) != digest:
                return False
            if broken:
                say(taken_back(settings, digest, broken))
                return False
            time.sleep(settings.guard.look_s)
    finally:
        watch.close()
    if not watch.judged:
        raise ControlRefused(
            f"Model {digest[:12]} was not judged: fewer than {settings.guard.least_payments} payments in "
            f"{settings.guard.watch_s:g} s.",
            "See that an engine decides, then watch it again: python -m training.promote guard.",
        )
    return True


def _written(settings: Settings, digest: str | None) -> float:
    path = conf.resolve(settings.models.store) / str(digest) / APPROVAL
    return path.stat().st_mtime if Path(path).exists() else 0.0
