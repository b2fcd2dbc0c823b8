"""From alerts to messages: no repeats, several in one, after quiet hours, to the next channel when nobody answers.

One planner at a time: a plan that has something to do begins with the row that all planners take.
"""

from dataclasses import dataclass

from lakehouse.alert_settings import Alerts
from serving.alerts.database import Run
from serving.alerts.matched import Alert, digest
from serving.alerts.outbox import ADD_MESSAGE
from serving.alerts.quiet import due
from serving.alerts.tables import (
    ACKNOWLEDGED,
    ALERT_COLUMNS,
    ALERTS,
    NEW,
    OPEN,
    REPEATED,
    STALE,
    WAITING,
    insert,
    names,
)

AT_ONCE = 500
"""Alerts of one plan; what is left is planned next."""

_ADD_CONTENT = insert("alert_contents", ("message_id", "alert_id"), "message_id", "alert_id")
_ANY = "SELECT 1 FROM alerts WHERE state = ? OR (state = ? AND escalate_at <= ?) LIMIT 1"
_FRESH = f"SELECT {names(ALERT_COLUMNS)} FROM alerts WHERE state = ? ORDER BY decided_at, alert_id LIMIT ?"
_DUE = "state = ? AND escalate_at <= ? ORDER BY escalate_at, alert_id LIMIT ?"
_LATE = f"SELECT level, {names(ALERT_COLUMNS)} FROM alerts WHERE {_DUE}"
_TELLS = (
    "SELECT alert_id FROM alerts WHERE repeat_key = ? AND state IN (?, ?) AND decided_at > ? AND decided_at < ? "
    "ORDER BY decided_at LIMIT 1"
)
_ROOM = (
    "SELECT message_id, due_at FROM alert_messages WHERE channel = ? AND kind = ? AND critical = ? AND state = ? "
    "AND attempts = 0 AND alerts < ? ORDER BY created_at, message_id LIMIT 1"
)
# A worker beside us may have taken the message since we saw it: then what it read for it is without this alert.
_JOIN = "UPDATE alert_messages SET alerts = alerts + 1 WHERE message_id = ? AND state = ? AND attempts = 0"
_SET = "UPDATE alerts SET state = ?, repeats = ?, level = ?, escalate_at = ? WHERE alert_id = ?"


@dataclass(frozen=True)
class Planned:
    """What a plan did; `more` when it did not get to everything."""

    opened: int
    repeated: int
    stale: int
    escalated: int
    more: bool


class Planner:
    """Plans within transactions, under settings."""

    def __init__(self, settings: Alerts) -> None:
        self._settings = settings

    def plan(self, run: Run, now: int) -> Planned:
        """Put what is new and what nobody acknowledged in time into messages; `now` in milliseconds."""
        if run(_ANY, (NEW, OPEN, now)).fetchone() is None:
            # Most plans: nothing is written, and no other planner waited for.
            return Planned(0, 0, 0, 0, False)
        run("UPDATE alert_planning SET at = ?", (now,))
        fresh = [Alert(*row) for row in run(_FRESH, (NEW, AT_ONCE)).fetchall()]
        states = [self._take(run, alert, now) for alert in fresh]
        late = run(_LATE, (OPEN, now, AT_ONCE)).fetchall()
        for level, *row in late:
            self._escalate(run, Alert(*row), level, now)
        return Planned(
            states.count(OPEN),
            states.count(REPEATED),
            states.count(STALE),
            len(late),
            AT_ONCE in (len(fresh), len(late)),
        )

    def _take(self, run: Run, alert: Alert, now: int) -> str:
        rule, window = self._settings.rule(alert.rule), self._settings.repeat_window_s * 1000
        if rule is None or alert.decided_at < now - self._settings.max_age_s * 1000:
            run(_SET, (STALE, None, 0, None, alert.alert_id))
            return STALE
        near = (alert.decided_at - window, alert.decided_at + window)
        tells = run(_TELLS, (alert.repeat_key, OPEN, ACKNOWLEDGED, *near)).fetchone()
        if tells is not None:
            run(_SET, (REPEATED, tells[0], 0, None, alert.alert_id))
            return REPEATED
        told = max(self._tell(run, alert, channel, 0, now) for channel in rule.channels)
        run(_SET, (OPEN, None, 0, self._patience(told) if rule.escalation else None, alert.alert_id))
        return OPEN

    def _escalate(self, run: Run, alert: Alert, level: int, now: int) -> None:
        rule = self._settings.rule(alert.rule)
        left = rule.escalation[level:] if rule else ()
        told = self._tell(run, alert, left[0], level + 1, now) if left else now
        run(_SET, (OPEN, None, level + 1, self._patience(told) if left[1:] else None, alert.alert_id))

    def _patience(self, told: int) -> int:
        """When the next channel is told, if this one is told at `told`."""
        return told + self._settings.escalate_after_s * 1000

    def _tell(self, run: Run, alert: Alert, name: str, level: int, now: int) -> int:
        """When the channel is told of an alert; it joins a message that nobody has tried to deliver, or begins one."""
        most, critical = self._settings.group_most, int(alert.is_critical)
        room = run(_ROOM, (name, ALERTS, critical, WAITING, most)).fetchone()
        if room is not None and run(_JOIN, (room[0], WAITING)).rowcount:
            run(_ADD_CONTENT, (room[0], alert.alert_id))
            return max(now, int(room[1]))
        channel = self._settings.channel(name)
        soon = now + int(self._settings.group_s * 1000)
        at = soon if channel is None or alert.is_critical else due(channel.quiet, soon)
        message_id = digest("message", name, alert.alert_id, str(level))
        run(ADD_MESSAGE, (message_id, name, ALERTS, "", critical, 1, WAITING, now, at, 0, None, None))
        run(_ADD_CONTENT, (message_id, alert.alert_id))
        return at
