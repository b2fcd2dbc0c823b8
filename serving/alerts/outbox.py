"""The outbox: alerts as the log gave them, messages on their way, and what people say to them.

Every method is a transaction. Several workers may share an outbox: a row is taken by the update that finds it as it
was, so of two that want it one gets it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from serving.alerts.database import Database, Run
from serving.alerts.matched import Alert
from serving.alerts.tables import (
    ACKNOWLEDGED,
    ALERT_COLUMNS,
    ALERTS,
    DEAD,
    MESSAGE_COLUMNS,
    NEEDLESS,
    NEW,
    OPEN,
    SENT,
    VERIFICATION,
    VERIFICATION_COLUMNS,
    WAITING,
    insert,
    names,
    progress,
)
from serving.alerts.verifications import Request, message_id
from serving.decision_store import Progress

MOST_SHOWN = 200

_PROGRESS = progress({str: "", int: ""}, "")
_ADD_ALERT = insert("alerts", (*ALERT_COLUMNS, "state", "level"), "alert_id")
_ADD_REQUEST = insert("verifications", VERIFICATION_COLUMNS, "verification_id")
ADD_MESSAGE = insert("alert_messages", MESSAGE_COLUMNS, "message_id")
_LATER = "UPDATE alert_messages SET due_at = ?, error = ? WHERE message_id = ? AND state = ? AND attempts = ?"
_IN_IT = "alert_id IN (SELECT alert_id FROM alert_contents WHERE message_id = ?)"
_NAMED = f"(alert_id IN (?, (SELECT repeats FROM alerts WHERE alert_id = ?)) OR {_IN_IT})"


@dataclass(frozen=True)
class Message:
    """A message as it is stored; times in milliseconds. Of a verification `subject` is the request."""

    message_id: str
    channel: str
    kind: str
    subject: str
    critical: int
    alerts: int
    state: str
    created_at: int
    due_at: int
    attempts: int
    error: str | None
    ended_at: int | None


@dataclass(frozen=True)
class Shown:
    """An alert and how it stands."""

    alert: Alert
    state: str
    repeats: str | None
    level: int
    acknowledged_at: int | None
    acknowledged_by: str | None


class Outbox:
    """Over a database of either kind."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def progress(self, topic_id: str, partition: int) -> Progress | None:
        """How far the outbox is complete."""
        found = self.database.together(lambda run: run(_PROGRESS.ask, (topic_id, partition)).fetchall())
        return Progress(*found[0]) if found else None

    def take(
        self, alerts: Sequence[Alert], requests: Sequence[Request], channel: str, now: int, progress: Progress
    ) -> int:
        """Take in what the log gave and note how far that is; what is there already stays as it is.

        How many requests were not there.
        """

        def work(run: Run) -> int:
            for alert in alerts:
                run(_ADD_ALERT, (*astuple(alert), NEW, 0))
            added = 0
            for one in requests:
                added += run(_ADD_REQUEST, astuple(one)).rowcount
                told = message_id(one.verification_id)
                run(
                    ADD_MESSAGE,
                    (told, channel, VERIFICATION, one.verification_id, 1, 0, WAITING, now, now, 0, None, None),
                )
            run(_PROGRESS.note, astuple(progress))
            return added

        return self.database.together(work)

    def add(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Take in alerts that no decision gave; those that were not there yet."""
        return self.database.together(
            lambda run: [alert for alert in alerts if run(_ADD_ALERT, (*astuple(alert), NEW, 0)).rowcount]
        )

    def due(self, now: int, lease_ms: int, attempts: int, running: Mapping[str, int], lanes: int) -> list[Message]:
        """Messages to deliver now, each with this attempt counted; nobody else gets them for `lease_ms`.

        Of a channel so many that with those `running` they are `lanes`: a message that is taken is tried.
        A message that nobody has settled when its lease is over is due again: whoever took it is gone, or hangs.
        """
        waiting = "FROM alert_messages WHERE state = ? AND due_at <= ?"
        channels = f"SELECT DISTINCT channel {waiting} ORDER BY channel"
        oldest = f"SELECT {names(MESSAGE_COLUMNS)} {waiting} AND channel = ? ORDER BY due_at, message_id LIMIT ?"

        def work(run: Run) -> list[Message]:
            found = []
            for (name,) in run(channels, (WAITING, now)).fetchall():
                found += run(oldest, (WAITING, now, name, max(0, lanes - running.get(name, 0)))).fetchall()
            return [one for row in found if (one := _taken(run, Message(*row), now, lease_ms, attempts))]

        return self.database.together(work)

    def contents(self, message_id: str) -> list[Alert]:
        """The alerts of a message, oldest first."""
        asked = f"SELECT {names(ALERT_COLUMNS)} FROM alerts WHERE {_IN_IT} ORDER BY decided_at, alert_id"
        return [Alert(*row) for row in self.database.together(lambda run: run(asked, (message_id,)).fetchall())]

    def sent(self, message_id: str, now: int) -> None:
        """A message was delivered, by whichever attempt."""
        ended = "UPDATE alert_messages SET state = ?, ended_at = ?, error = NULL WHERE message_id = ? AND state = ?"
        self.database.together(lambda run: run(ended, (SENT, now, message_id, WAITING)))

    def failed(self, message: Message, error: str, again_at: int | None, now: int) -> None:
        """An attempt failed: it is tried again, or with None given up, and whom its alerts escalate to is told now."""

        def work(run: Run) -> None:
            if again_at is None:
                _end(run, message.message_id, DEAD, error, now)
            else:
                run(_LATER, (again_at, error, message.message_id, WAITING, message.attempts))

        self.database.together(work)

    def needless(self, message_id: str, now: int) -> None:
        """A message that nobody needs any more."""
        self.database.together(lambda run: _end(run, message_id, NEEDLESS, None, now))

    def revive(self, message_id: str, now: int) -> bool:
        """Whether a dead message is to be delivered after all."""
        # Its first attempt stays counted: no new alert may join what a receiver may have seen.
        again = "UPDATE alert_messages SET state = ?, attempts = 1, due_at = ? WHERE message_id = ? AND state = ?"
        return bool(self.database.together(lambda run: run(again, (WAITING, now, message_id, DEAD)).rowcount))

    def is_dead(self, message_id: str) -> bool:
        """Whether a message was given up."""
        asked = "SELECT 1 FROM alert_messages WHERE message_id = ? AND state = ?"
        return bool(self.database.together(lambda run: run(asked, (message_id, DEAD)).fetchall()))

    def named(self, given: str) -> list[Shown]:
        """The alerts of an alert's or a message's id, a repeat with the alert that tells of it; as they stand."""
        return self.database.together(lambda run: _shown(run, _NAMED, (given, given, given)))

    def acknowledge(self, given: str, by: str, now: int) -> list[Shown]:
        """The alerts of an alert's or a message's id, acknowledged; who was first stays. Empty for an unknown id.

        A repeat is acknowledged with the alert that tells of it.
        """
        update = (
            f"UPDATE alerts SET state = ?, escalate_at = NULL, acknowledged_at = ?, acknowledged_by = ? "
            f"WHERE {_NAMED} AND state IN (?, ?)"
        )

        def work(run: Run) -> list[Shown]:
            run(update, (ACKNOWLEDGED, now, by, given, given, given, NEW, OPEN))
            return _shown(run, _NAMED, (given, given, given))

        return self.database.together(work)

    def alerts(self, state: str | None, limit: int = MOST_SHOWN) -> list[Shown]:
        """The newest alerts, of one state or of all."""
        where, values = ("state = ?", (state,)) if state else ("1 = 1", ())
        return self.database.together(lambda run: _shown(run, where, values, limit))

    def messages(self, state: str, limit: int = MOST_SHOWN) -> list[Message]:
        """The newest messages of a state."""
        newest = "WHERE state = ? ORDER BY created_at DESC, message_id LIMIT ?"
        asked = f"SELECT {names(MESSAGE_COLUMNS)} FROM alert_messages {newest}"
        return [Message(*row) for row in self.database.together(lambda run: run(asked, (state, limit)).fetchall())]

    def counts(self) -> list[tuple[str, str, int, int]]:
        """(channel, state, messages, oldest `created_at`) of what waits and what is dead."""
        asked = (
            "SELECT channel, state, COUNT(*), MIN(created_at) FROM alert_messages WHERE state IN (?, ?) "
            "GROUP BY channel, state"
        )
        return self.database.together(lambda run: [tuple(row) for row in run(asked, (WAITING, DEAD)).fetchall()])


def _taken(run: Run, message: Message, now: int, lease_ms: int, attempts: int) -> Message | None:
    """A message with this attempt counted; None when it is given up, needless or somebody else's."""
    take = (
        "UPDATE alert_messages SET attempts = attempts + 1, due_at = ? "
        "WHERE message_id = ? AND state = ? AND due_at <= ? AND attempts = ?"
    )
    values = (now + lease_ms, message.message_id, WAITING, now, message.attempts)
    if not run(take, values).rowcount:
        return None
    if message.attempts >= attempts:
        _end(run, message.message_id, DEAD, message.error or "no attempt ended", now)
        return None
    if message.kind == ALERTS:
        asked = f"SELECT COUNT(*) FROM alerts WHERE {_IN_IT} AND state = ?"
        (wanted,) = run(asked, (message.message_id, OPEN)).fetchone()
        if not wanted:
            _end(run, message.message_id, NEEDLESS, None, now)
            return None
    return replace(message, attempts=message.attempts + 1)


def _end(run: Run, message_id: str, state: str, error: str | None, now: int) -> None:
    end = "UPDATE alert_messages SET state = ?, error = ?, ended_at = ? WHERE message_id = ? AND state = ?"
    if run(end, (state, error, now, message_id, WAITING)).rowcount and state == DEAD:
        sooner = f"UPDATE alerts SET escalate_at = ? WHERE {_IN_IT} AND state = ? AND escalate_at > ?"
        run(sooner, (now, message_id, OPEN, now))


def _shown(run: Run, where: str, values: Sequence[Any], limit: int = MOST_SHOWN) -> list[Shown]:
    columns = (*ALERT_COLUMNS, "state", "repeats", "level", "acknowledged_at", "acknowledged_by")
    asked = f"SELECT {names(columns)} FROM alerts WHERE {where} ORDER BY decided_at DESC, alert_id LIMIT ?"
    n = len(ALERT_COLUMNS)
    return [Shown(Alert(*row[:n]), *row[n:]) for row in run(asked, (*values, limit)).fetchall()]
