"""One champion, its reference, and every window after it as rows of quality.drift."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.catalogue import NAMES
from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts.quality import DRIFT
from lakehouse.errors import Terminal
from lakehouse.log import logger
from lakehouse.moments import DAY_MS
from lakehouse.settings import Settings, resolve
from training import importance
from training.bins import Bins
from training.data import read
from training.measures import Counted, Measure, calibration, distribution, rate
from training.null import LEAST_WINDOWS
from training.windows import Lake, Window, after, before

SAMPLE = 50_000
"""Rows of the reference that the bins are made from."""
Row = dict[str, Any]


class DriftRefused(Terminal):
    """There is nothing to compare, or nothing to compare it with."""


class Watch:
    """One champion, its reference, and what is measured against it."""

    def __init__(self, settings: Settings, digest: str, manifest: Mapping[str, Any], reference_end_ms: int) -> None:
        self._drift, self._gap_d, self._seed = settings.drift, settings.training.label_gap_d, settings.training.seed
        self._root, self._digest, self._manifest = conf.lake_root(settings), digest, manifest
        self._store = resolve(settings.models.store)
        self._lake = Lake(self._root, digest)
        self._end_ms = reference_end_ms
        self._windows = before(reference_end_ms, self._drift.reference_windows, self._drift.window_d)
        self._say = logger("drift").info

    def rows(self, until_ms: int, importances: bool) -> Iterator[Row]:
        """Rows of quality.drift that are not there yet."""
        held = self._held()
        new = [w for w in after(self._end_ms, until_ms, self._drift.window_d) if (w.end, "psi") not in held]
        if new:
            yield from self._distributions(new)
            yield from self._decisions(new)
        until = min(until_ms, self._lake.labels_until_ms(self._gap_d))
        mature = [w for w in after(self._end_ms, until, self._drift.window_d) if (w.end, "calibration") not in held]
        if mature:
            yield from self._calibration(mature)
        if importances and until > 0 and (window := Window(until - DAY_MS, until)).end not in _ends(held, "importance"):
            yield from self._importance(window)

    def _held(self) -> set[tuple[Any, str]]:
        columns = ["window_end", "measure", "model_digest"]
        rows = delta.rows(self._root, DRIFT, columns).to_pylist()
        return {(row["window_end"], row["measure"]) for row in rows if row["model_digest"] == self._digest}

    def _row(self, window: Window, one: Measure) -> Row:
        return {
            "window_start": window.start,
            "window_end": window.end,
            "subject": one.subject,
            "measure": one.name,
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "alarm": one.alarm,
            "rows": one.rows,
            "reference_start": self._windows[0].start,
            "reference_end": self._windows[-1].end,
            "model_digest": self._digest,
        }

    def _reference(self, what: str, sizes: Sequence[int]) -> list[int]:
        """Places of the windows of the reference that have enough rows; DriftRefused where there are too few."""
        enough = [at for at, rows in enumerate(sizes) if rows >= self._drift.least_rows]
        if len(enough) < LEAST_WINDOWS:
            raise DriftRefused(
                f"Only {len(enough)} of the {len(sizes)} windows before {self._windows[-1].end:%Y-%m-%d} have "
                f"{self._drift.least_rows} {what} or more; {LEAST_WINDOWS} are needed.",
                "Give another --reference-end, or longer windows in drift.window_d.",
            )
        return enough

    def _subjects(self, window: Window) -> list[tuple[str, Any]]:
        X = self._lake.vectors(window)
        return [*((name, X[:, at]) for at, name in enumerate(NAMES)), ("score", self._lake.scores(window))]

    def _distributions(self, new: Sequence[Window]) -> Iterator[Row]:
        alpha = self._drift.false_alarm
        samples: list[list[Any]] = []
        sizes = []
        for window in self._windows:
            subjects = self._subjects(window)
            sizes.append(len(subjects[0][1]))
            step = max(1, sizes[-1] * len(self._windows) // SAMPLE)
            samples.append([values[::step].copy() for _, values in subjects])
            self._say("reference sampled", day=f"{window.start:%Y-%m-%d}", payments=sizes[-1])
        kept = [self._windows[at] for at in self._reference("vectors", sizes)]
        every = [Bins.of(np.concatenate(parts)) for parts in zip(*samples, strict=True)]
        counts: list[list[Any]] = [[] for _ in every]
        for window in kept:
            for at, (_, values) in enumerate(self._subjects(window)):
                counts[at].append((every[at].counts(values), every[at].below(values)))
            self._say("reference counted", day=f"{window.start:%Y-%m-%d}")
        past = [Counted(b, *(np.stack(p) for p in zip(*c, strict=True))) for b, c in zip(every, counts, strict=True)]
        for window in new:
            subjects = self._subjects(window)
            for counted, (name, values) in zip(past, subjects, strict=True):
                seen = (counted.counts.sum(axis=1) >= self._drift.least_rows).sum()
                if len(values) >= self._drift.least_rows and seen >= LEAST_WINDOWS:
                    found = counted.bins.counts(values), counted.bins.below(values)
                    for one in distribution(name, counted, *found, alpha):
                        yield self._row(window, one)
            self._say("window measured", day=f"{window.start:%Y-%m-%d}", payments=len(subjects[0][1]))

    def _decisions(self, new: Sequence[Window]) -> Iterator[Row]:
        past = [self._lake.decided(window) for window in self._windows]
        past = [one for one in past if one.decisions >= self._drift.least_rows]
        if len(past) < LEAST_WINDOWS:
            self._say("approval and alert rate have no reference yet", windows=len(past), needed=LEAST_WINDOWS)
            return
        rows = np.array([one.decisions for one in past])
        for window in new:
            now = self._lake.decided(window)
            if now.decisions < self._drift.least_rows:
                continue
            for name, of in (("approval_rate", "approved"), ("alert_rate", "alerts")):
                hits = np.array([getattr(one, of) for one in past])
                asked = (hits, rows, getattr(now, of), now.decisions, self._drift.false_alarm)
                yield self._row(window, rate("decisions", name, *asked))

    def _calibration(self, mature: Sequence[Window]) -> Iterator[Row]:
        past = [self._lake.found(window, self._gap_d) for window in self._windows]
        past = [one for one in past if one.payments >= self._drift.least_rows]
        if len(past) < LEAST_WINDOWS:
            self._say("calibration has no reference yet", windows=len(past), needed=LEAST_WINDOWS)
            return
        frauds, expected = (np.array([getattr(one, name) for one in past], float) for name in ("frauds", "expected"))
        for window in mature:
            now = self._lake.found(window, self._gap_d)
            if now.payments >= self._drift.least_rows:
                found = (now.frauds, now.expected, now.payments)
                yield self._row(window, calibration(frauds, expected, *found, self._drift.false_alarm))

    def _importance(self, window: Window) -> Iterator[Row]:
        self._say("fitting the champion's settings again for its importances")
        data = read(self._root)
        champion = importance.of_bundle(self._store, self._digest)
        yield self._row(window, importance.moved(champion, self._manifest, data, window.end_ms, self._seed))


def _ends(held: set[tuple[Any, str]], measure: str) -> set[Any]:
    return {end for end, name in held if name == measure}
