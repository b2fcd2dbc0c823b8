"""Values of the little world: times, tokens, digests, and what a column holds."""

import hashlib
from datetime import UTC, datetime, timedelta

from lakehouse.tables import Column

LANDED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(ms):
    """A time of milliseconds."""
    return _EPOCH + timedelta(milliseconds=ms)


def secret(*parts):
    """Sixteen bytes that follow from something."""
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def token(kind, value):
    """A token as it looks."""
    return None if value is None else f"v1:{hashlib.sha256(f'{kind}|{value}'.encode()).hexdigest()[:24]}"


def default(column: Column):
    """A value for what no test looks at."""
    if column.nullable:
        return None
    usual = {"double": 0.5, "boolean": True, "string": "x", "int": 1, "bigint": 1, "binary": bytes(16)}
    return {**usual, "timestamp": LANDED}[column.type]


def typed(column, value):
    """A record's value as its column holds it."""
    if value is None or column.type not in ("timestamp", "date"):
        return value
    return moment(value) if column.type == "timestamp" else _EPOCH.date() + timedelta(days=value)
