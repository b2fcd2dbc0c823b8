"""Quiet hours: when a message that may wait is due."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lakehouse.alert_settings import QuietHours


def is_quiet(quiet: QuietHours, at: datetime) -> bool:
    """Whether a moment lies in quiet hours; their begin does, their end does not."""
    now = at.astimezone(ZoneInfo(quiet.zone)).time()
    if quiet.begin < quiet.end:
        return quiet.begin <= now < quiet.end
    return now >= quiet.begin or now < quiet.end


def due(quiet: QuietHours | None, at_ms: int) -> int:
    """The moment itself, or the end of the quiet hours that it lies in; milliseconds.

    An end that a zone leaves out when its clocks go forward is as many minutes later, as that zone's clocks are.
    """
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    if quiet is None or not is_quiet(quiet, at):
        return at_ms
    local = at.astimezone(ZoneInfo(quiet.zone))
    day = local.date() if local.time() < quiet.end else local.date() + timedelta(days=1)
    end = datetime.combine(day, quiet.end, ZoneInfo(quiet.zone))
    return max(at_ms, int(end.timestamp() * 1000))
