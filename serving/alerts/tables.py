"""The tables of the outbox, for SQLite and PostgreSQL alike; which states their rows have."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, get_args

from serving.alerts.matched import Alert
from serving.store_sql import ProgressTable

VERSION = 1
ASKS_VERSION = "SELECT version FROM alert_version"

NEW: Final = "new"
"""An alert that nobody has looked at; then it is open, repeated (an open one tells of it) or stale (too old)."""
OPEN, REPEATED, STALE, ACKNOWLEDGED = "open", "repeated", "stale", "acknowledged"
WAITING: Final = "waiting"
"""A message that is to be delivered; then it is sent, dead (given up) or needless (somebody acknowledged it before)."""
SENT, DEAD, NEEDLESS = "sent", "dead", "needless"
ALERTS, VERIFICATION = "alerts", "verification"
"""Kinds of messages."""

ALERT_COLUMNS = tuple(field.name for field in fields(Alert))
_TYPES: Mapping[str, Any] = {
    field.name: next(kind for kind in (*get_args(field.type), field.type) if kind in (str, int, float))
    for field in fields(Alert)
}
_OF_ALERT: Mapping[str, type] = {
    **_TYPES,
    "state": str,
    "repeats": str,
    "level": int,
    "escalate_at": int,
    "acknowledged_at": int,
    "acknowledged_by": str,
}
_OF_MESSAGE: Mapping[str, type] = {
    "message_id": str,
    "channel": str,
    "kind": str,
    "subject": str,
    "critical": int,
    "alerts": int,
    "state": str,
    "created_at": int,
    "due_at": int,
    "attempts": int,
    "error": str,
    "ended_at": int,
}
OF_VERIFICATION: Mapping[str, type] = {
    "verification_id": str,
    "decision_id": str,
    "transaction_id": str,
    "topic_id": str,
    "partition": int,
    "offset": int,
    "customer_token": str,
    "merchant_id": str,
    "amount_base_minor": int,
    "suspected": int,
    "received_at": int,
    "decided_at": int,
    "expires_at": int,
    "key_version": int,
    "result": str,
    "ended_at": int,
    "tries": int,
    "write_after": int,
    "written": int,
}
_NULL = frozenset(
    ("risk", "score", "amount_base_minor", "repeats", "escalate_at", "acknowledged_at", "acknowledged_by")
)
_NULL |= {"error", "ended_at", "result"}


def names(columns: Sequence[str]) -> str:
    """Columns with commas between."""
    return ", ".join(f'"{name}"' for name in columns)


def insert(table: str, columns: Sequence[str], *key: str) -> str:
    """The statement that adds a row unless its key is there."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({names(columns)}) VALUES ({marks}) ON CONFLICT ({names(key)}) DO NOTHING"


def progress(types: Mapping[type, str], options: str) -> ProgressTable:
    """How far the outbox is complete."""
    return ProgressTable("alert_progress", "?", types, options)


def tables(types: Mapping[type, str], options: str = "") -> list[str]:
    """What makes the tables that are not there; `types` give the database's name of each Python type."""

    def made(table: str, columns: Mapping[str, type], *key: str) -> str:
        each = [f'"{n}" {types[kind]}{"" if n in _NULL else " NOT NULL"}' for n, kind in columns.items()]
        return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(each)}, PRIMARY KEY ({names(key)})){options}"

    def index(name: str, on: str) -> str:
        return f"CREATE INDEX IF NOT EXISTS {name} ON {on}"

    return [
        made("alert_version", {"version": int}, "version"),
        f"INSERT INTO alert_version SELECT {VERSION} WHERE NOT EXISTS (SELECT 1 FROM alert_version)",
        made("alert_planning", {"id": int, "at": int}, "id"),
        "INSERT INTO alert_planning SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM alert_planning)",
        progress(types, options).make,
        made("alerts", _OF_ALERT, "alert_id"),
        index("alerts_by_state", "alerts (state, escalate_at)"),
        index("alerts_by_repeat", "alerts (repeat_key, decided_at)"),
        made("alert_messages", _OF_MESSAGE, "message_id"),
        index("alert_messages_by_state", "alert_messages (state, due_at)"),
        made("alert_contents", {"message_id": str, "alert_id": str}, "message_id", "alert_id"),
        made("verifications", OF_VERIFICATION, "verification_id"),
        index("verifications_by_state", "verifications (written, expires_at)"),
    ]


MESSAGE_COLUMNS, VERIFICATION_COLUMNS = tuple(_OF_MESSAGE), tuple(OF_VERIFICATION)
