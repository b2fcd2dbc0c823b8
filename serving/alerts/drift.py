"""Alarms of the drift watch as alerts: `training.drift` writes rows to quality.drift, rules name their measures.

An alert's id follows from rule, model, subject, measure and window, so each is told once, whoever looks and how often.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import Counter

from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.alert_settings import AlertRule
from lakehouse.contracts.quality import DRIFT
from lakehouse.settings import Settings
from serving.alerts.matched import OF_DRIFT, Alert, digest
from serving.alerts.outbox import Outbox

WINDOWS = 7
"""An outbox that begins anew tells of alarms in so many of the newest windows of each measure, of no older ones."""

STORED = Counter("fraudlake_drift_alerts", "Alarms of the drift watch taken into the outbox", ["rule"])


def alerts(rules: Sequence[AlertRule], rows: Iterable[Mapping[str, Any]], now_ms: int) -> list[Alert]:
    """The alerts of rows of quality.drift, one a rule that names the measure of a recent alarm."""
    rows = list(rows)
    newest: dict[str, Any] = {}
    for row in rows:
        newest[row["measure"]] = max(row["window_end"], newest.get(row["measure"], row["window_end"]))
    recent = [
        row
        for row in rows
        if row["alarm"]
        and row["window_end"] > newest[row["measure"]] - WINDOWS * (row["window_end"] - row["window_start"])
    ]
    return [_alert(rule, row, now_ms) for row in recent for rule in rules if row["measure"] in rule.drift]


def _alert(rule: AlertRule, row: Mapping[str, Any], now_ms: int) -> Alert:
    window = f"{row['window_end']:%Y-%m-%dT%H:%MZ}"
    found = digest("drift", rule.name, row["model_digest"], row["subject"], row["measure"], window)
    low = "" if row["low"] is None else f"{row['low']:.4g} to "
    return Alert(
        alert_id=found,
        rule=rule.name,
        decision_id="",
        card_token="",
        customer_token="",
        outcome=OF_DRIFT,
        risk=None,
        score=None,
        amount_base_minor=None,
        reasons=f"{row['measure']} of {row['subject']} is {row['value']:.4g} where {low}{row['high']:.4g} is usual "
        f"in the window that ended {window} (model {row['model_digest'][:12]})",
        decided_at=now_ms,
        repeat_key=found,
    )


class DriftAlarms:
    """Looks at quality.drift every so often and takes what is new into the outbox."""

    def __init__(self, settings: Settings, outbox: Outbox, now: Callable[[], float] = time.time) -> None:
        self._root, self._alerts, self._outbox, self._now = conf.lake_root(settings), settings.alerts, outbox, now
        self._looked_s = float("-inf")
        self._version = -1

    @staticmethod
    def wanted(settings: Settings) -> bool:
        """Whether a rule is of drift; else nobody needs the lake."""
        return any(rule.drift for rule in settings.alerts.rules)

    def step(self) -> bool:
        """Take in what is new, `alerts.drift_look_s` after the last look; there is never more."""
        if time.monotonic() >= self._looked_s + self._alerts.drift_look_s:
            self._looked_s = time.monotonic()
            self.look()
        return False

    def look(self) -> None:
        """Take in what is new, where the table was written to since the last look."""
        if not delta.exists(self._root, DRIFT):
            return
        version = delta.opened(self._root, DRIFT).version()
        if version == self._version:
            return
        rows = delta.rows(self._root, DRIFT, list(DRIFT.column_names)).to_pylist()
        for alert in self._outbox.add(alerts(self._alerts.rules, rows, int(self._now() * 1000))):
            STORED.labels(alert.rule).inc()
        self._version = version
