"""One champion, its reference, and every window after it as rows of quality.drift."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from decisions.bundle import XGBOOST_KIND, Model
from features.catalogue import NAMES
from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts import gold
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
    """One champion, its reference, and what is measured against it.

    Its scores of payments that it learnt from until `learnt_until_ms` are better than those to come, so scores and
    calibration are measured against windows behind that, where the reference has enough of them.
    """

    def __init__(self, settings: Settings, model: Model, reference_end_ms: int, learnt_until_ms: int) -> None:
        self._drift, self._gap_d, self._seed = settings.drift, settings.training.label_gap_d, settings.training.seed
        self._root, self._model = conf.lake_root(settings), model
        self._store = resolve(settings.models.store)
        self._lake = Lake(self._root, model)
        self._end_ms, self._learnt_ms = reference_end_ms, learnt_until_ms
        self._windows = before(reference_end_ms, self._drift.reference_windows, self._drift.window_d)
        self._say = logger("drift").info

    def rows(self, until_ms: int | None, importances: bool) -> Iterator[Row]:
        """Rows of quality.drift that are not there yet, each as far as the table that it looks at has come."""
        held = {(row["window_end"], row["measure"]) for row in _held(self._root, self._model.digest)}

        def new(measure: str, reached_ms: int) -> list[Window]:
            until = reached_ms if until_ms is None else min(until_ms, reached_ms)
            return [w for w in after(self._end_ms, until, self._drift.window_d) if (w.end, measure) not in held]

        if found := new("psi", self._lake.reached_ms(gold.VECTORS)):
            yield from self._distributions(found)
        if found := new("alert_rate", self._lake.reached_ms(gold.DECISIONS)):
            yield from self._decisions(found)
        labelled = self._lake.labels_until_ms(self._gap_d)
        if found := new("calibration", labelled):
            yield from self._calibration(found)
        until = labelled if until_ms is None else min(until_ms, labelled)
        window = Window(until - DAY_MS, until)
        # A network has no gain to compare, and its contributions are estimates.
        comparable = self._model.kind == XGBOOST_KIND
        if importances and comparable and until > 0 and (window.end, "importance") not in held:
            yield from self._importance(window)

    def _row(self, window: Window, one: Measure, places: Sequence[int] | None = None) -> Row:
        reference = self._windows if places is None else [self._windows[at] for at in places]
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
            "reference_start": reference[0].start,
            "reference_end": reference[-1].end,
            "model_digest": self._model.digest,
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

    def _not_learnt(self, places: list[int]) -> list[int]:
        """Of windows of the reference those that the champion did not learn from, or all where these are too few."""
        new = [at for at in places if self._windows[at].start_ms >= self._learnt_ms]
        if len(new) >= LEAST_WINDOWS:
            return new
        self._say("scores are compared with days that the champion learnt from", others=len(new), needed=LEAST_WINDOWS)
        return places

    def _subjects(self, window: Window) -> list[tuple[str, Any]]:
        X = self._lake.vectors(window)
        return [*((name, X[:, at]) for at, name in enumerate(NAMES)), ("score", self._model.scores(X).ensemble)]

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
        kept = self._reference("vectors", sizes)
        against = [*([kept] * len(NAMES)), self._not_learnt(kept)]
        every = [Bins.of(np.concatenate([samples[at][n] for at in places])) for n, places in enumerate(against)]
        counts: list[list[Any]] = [[] for _ in every]
        for at in kept:
            for n, (_, values) in enumerate(self._subjects(self._windows[at])):
                if at in against[n]:
                    counts[n].append((every[n].counts(values), every[n].below(values)))
            self._say("reference counted", day=f"{self._windows[at].start:%Y-%m-%d}")
        past = [Counted(b, *(np.stack(p) for p in zip(*c, strict=True))) for b, c in zip(every, counts, strict=True)]
        for window in new:
            subjects = self._subjects(window)
            for counted, places, (name, values) in zip(past, against, subjects, strict=True):
                seen = (counted.counts.sum(axis=1) >= self._drift.least_rows).sum()
                if len(values) >= self._drift.least_rows and seen >= LEAST_WINDOWS:
                    found = counted.bins.counts(values), counted.bins.below(values)
                    for one in distribution(name, counted, *found, alpha):
                        yield self._row(window, one, places)
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
        every = [self._lake.found(window, self._gap_d) for window in self._windows]
        places = [at for at, one in enumerate(every) if one.payments >= self._drift.least_rows]
        if len(places) < LEAST_WINDOWS:
            self._say("calibration has no reference yet", windows=len(places), needed=LEAST_WINDOWS)
            return
        places = self._not_learnt(places)
        past = [every[at] for at in places]
        frauds, expected = (np.array([getattr(one, name) for one in past], float) for name in ("frauds", "expected"))
        for window in mature:
            now = self._lake.found(window, self._gap_d)
            if now.payments >= self._drift.least_rows:
                found = (now.frauds, now.expected, now.payments)
                yield self._row(window, calibration(frauds, expected, *found, self._drift.false_alarm), places)

    def _importance(self, window: Window) -> Iterator[Row]:
        self._say("fitting the champion's settings again for its importances")
        data = read(self._root)
        champion = importance.of_bundle(self._store, self._model.digest)
        yield self._row(window, importance.moved(champion, self._model.manifest, data, window.end_ms, self._seed))


def _held(root: str, model_digest: str) -> list[Row]:
    rows: list[Row] = delta.rows(
        root, DRIFT, list(DRIFT.column_names), pc.field("model_digest") == model_digest
    ).to_pylist()
    return rows


def newest(root: str, model_digest: str) -> list[Row]:
    """Rows of quality.drift of the newest window of each measure, for one champion."""
    rows = _held(root, model_digest)
    end: dict[str, Any] = {}
    for row in rows:
        end[row["measure"]] = max(row["window_end"], end.get(row["measure"], row["window_end"]))
    return [row for row in rows if row["window_end"] == end[row["measure"]]]
