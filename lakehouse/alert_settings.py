"""Settings of alerts: which decisions alert, over which channels, and how challenges ask the customer.

What each value means is written beside its default in conf/base.yml. Targets of channels are secrets and not here:
`serving/alerts/channels.py` finds them by the channel's name.
"""

from datetime import time
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakehouse.section import Count, Port, Seconds, Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Confidence = Annotated[float, Field(ge=0, le=1)]
Measure = Literal[
    "psi", "ks", "missing_rate", "unseen_rate", "approval_rate", "alert_rate", "calibration", "importance"
]
"""Of quality.drift."""


class QuietHours(Section):
    """From `begin` to `end` of every day in a zone; over midnight where `end` is earlier."""

    begin: time
    end: time
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError("no such time zone; such as UTC or Europe/Berlin") from None
        return zone

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.begin == self.end:
            raise ValueError("begin and end are the same time")
        return self


class Channel(Section):
    """A way to tell somebody."""

    name: Name
    kind: Literal["webhook", "slack", "email", "pagerduty", "sms"]
    quiet: QuietHours | None = None


class AlertRule(Section):
    """Decisions that have one of each that is given, or alarms of the drift watch in one of the measures of `drift`.

    `channels` are told at once, `escalation` one after the other.
    """

    name: Name
    outcomes: frozenset[Literal["approve", "challenge", "review", "decline", "rejected"]] = frozenset()
    risks: frozenset[Literal["low", "medium", "high", "critical"]] = frozenset()
    reason_codes: frozenset[str] = frozenset()
    drift: frozenset[Measure] = frozenset()
    channels: Annotated[tuple[Name, ...], Field(min_length=1)]
    escalation: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.outcomes or self.risks or self.reason_codes):
            if not self.drift:
                raise ValueError("a rule needs outcomes, risks or reason_codes; without any it would be every payment")
        elif self.drift:
            raise ValueError("a rule is of decisions or of drift: no payment has both")
        return self


class Verification(Section):
    """How a challenged customer is asked."""

    channel: Name | None
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")]
    expiry_s: Annotated[int, Field(ge=30, le=86_400)]
    tries: Annotated[int, Field(ge=1, le=10)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    currency_decimals: Annotated[int, Field(ge=0, le=4)]
    takeover_reasons: frozenset[str]
    confidence_not_me: Confidence
    confidence_me: Confidence
    confidence_me_takeover: Confidence


class Alerts(Section):
    """Everything about alerts; every channel that is named is there."""

    file: Path
    metrics_port: Port
    rules: tuple[AlertRule, ...]
    channels: tuple[Channel, ...]
    repeat_window_s: Annotated[int, Field(ge=0)]
    group_s: Annotated[float, Field(ge=0)]
    group_most: Annotated[int, Field(ge=1, le=100)]
    escalate_after_s: Count
    drift_look_s: Seconds
    max_age_s: Count
    attempts: Count
    first_retry_s: Seconds
    longest_retry_s: Seconds
    timeout_s: Seconds
    allow_private: tuple[IPv4Network | IPv6Network, ...]
    verification: Verification

    @model_validator(mode="after")
    def _whole(self) -> Self:
        kinds = {channel.name: channel.kind for channel in self.channels}
        if len(kinds) < len(self.channels) or len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two channels or two rules have one name")
        asked = self.verification.channel
        named = {name for rule in self.rules for name in (*rule.channels, *rule.escalation)}
        if unknown := (named | ({asked} if asked else set())) - set(kinds):
            raise ValueError(f"no such channel: {', '.join(sorted(unknown))}")
        if asked is not None and kinds[asked] != "webhook":
            # Nobody here knows a customer's address: the bank's notification service does.
            raise ValueError("verification.channel must be a webhook")
        return self

    def channel(self, name: str) -> Channel | None:
        """The channel of a name."""
        return next((channel for channel in self.channels if channel.name == name), None)

    def rule(self, name: str) -> AlertRule | None:
        """The rule of a name."""
        return next((rule for rule in self.rules if rule.name == name), None)
