"""What a world is made from: its options, and the world times that follow from them.

    start ............ history, `days` long ............ live_from ... live part, `live_s` x pace ... end

World time is UTC in milliseconds. A world of 3,500 payments a day sends one every 25 seconds; played at 200 a second it
runs 4,937 times faster than its own clock. That factor is the pace: the live part covers `live_s` x pace world seconds.
"""

from dataclasses import dataclass

from lakehouse.errors import SettingsError

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAY_S = 86_400

MAX_FRAUD_RATE = 0.1
"""Above it stolen cards would outnumber the victims that have a history; the field sees 0.0005 to 0.01."""
MIN_PAYMENTS_PER_DAY = 100
"""Below it a city has no two customers, and favourite shops, households and crowds mean nothing."""
MAX_SPAN_DAYS = 3_650


@dataclass(frozen=True)
class Options:
    """The options of a world; equal options give equal bytes."""

    end_ms: int
    days: int = 60
    payments_per_day: int = 3_500
    fraud_rate: float = 0.004
    seed: int = 1
    live_s: float = 0.0
    rate: float = 200.0
    faults: int = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("days", self.days, 1, MAX_SPAN_DAYS),
            ("payments-per-day", self.payments_per_day, MIN_PAYMENTS_PER_DAY, 100_000_000),
            ("fraud-rate", self.fraud_rate, 0, MAX_FRAUD_RATE),
            ("seed", self.seed, 0, 2**63 - 1),
            ("live seconds", self.live_s, 0, DAY_S),
            ("rate", self.rate, 0.001, 1_000_000),
            ("faults", self.faults, 0, 100_000_000),
        ):
            if not low <= value <= high:
                raise SettingsError(f"--{name.replace(' ', '-')} is {value}.", f"It must be from {low:,} to {high:,}.")
        if self.live_ms > MAX_SPAN_DAYS * DAY_MS:
            raise SettingsError(
                f"{self.live_s:g} live seconds at a pace of {self.pace:,.0f} are {self.live_ms // DAY_MS:,} days.",
                "Use a lower rate, fewer seconds or more payments a day.",
            )
        room = self.days * self.payments_per_day // 40
        if self.faults * 11 > room:
            raise SettingsError(
                f"{self.faults:,} faults of eleven kinds do not fit {self.days * self.payments_per_day:,} payments.",
                f"At most {room // 11:,}, so that at most one payment in forty has a faulty copy.",
            )

    @property
    def pace(self) -> float:
        """World seconds per real second of the live part."""
        return self.rate * DAY_S / self.payments_per_day

    @property
    def live_ms(self) -> int:
        """Length of the live part in world milliseconds."""
        return round(self.live_s * self.pace * SECOND_MS)

    @property
    def live_from_ms(self) -> int:
        """Where the history ends and the live part begins."""
        return self.end_ms - self.live_ms

    @property
    def start_ms(self) -> int:
        """Where the history begins."""
        return self.live_from_ms - self.days * DAY_MS

    @property
    def span_days(self) -> int:
        """Days of history and live part together, the last one perhaps not whole."""
        return self.days + -(-self.live_ms // DAY_MS)

    def day_ms(self, day: int) -> int:
        """Where day `day` of the world begins; its days are 24 hours from the start, not midnights."""
        return self.start_ms + day * DAY_MS
