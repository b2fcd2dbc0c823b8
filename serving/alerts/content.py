"""What a message says: tokens, amounts, reasons and ids, never a card number or a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from lakehouse.moments import time_of
from serving.alerts.matched import OF_DRIFT, Alert
from serving.alerts.verifications import Request


class Content(Protocol):
    """A message for every kind of channel; its id is the same in every attempt, and in each form."""

    @property
    def message_id(self) -> str:
        """The id."""

    def body(self) -> bytes:
        """As JSON."""

    def title(self) -> str:
        """One line for people."""

    def text(self) -> str:
        """For people."""


@dataclass(frozen=True)
class AlertContent:
    """Several alerts in one message."""

    message_id: str
    alerts: Sequence[Alert]

    def body(self) -> bytes:
        """As JSON."""
        return orjson.dumps(
            {"id": self.message_id, "kind": "alerts", "alerts": [_fields(alert) for alert in self.alerts]}
        )

    def title(self) -> str:
        """One line for people."""
        critical = sum(alert.is_critical for alert in self.alerts)
        many = "1 alert" if len(self.alerts) == 1 else f"{len(self.alerts)} alerts"
        return f"fraudlake: {many}" + (f", {critical} critical" if critical else "")

    def text(self) -> str:
        """A line an alert, and how to acknowledge them."""
        lines = [_line(alert) for alert in self.alerts]
        return "\n".join(
            [*lines, f"Message {self.message_id}; acknowledge: POST /v1/alerts/{self.message_id}/acknowledge"]
        )


@dataclass(frozen=True)
class VerificationContent:
    """What the bank's notification service needs to ask its customer, whose address it knows and we do not."""

    message_id: str
    request: Request
    link: str
    code: str

    def body(self) -> bytes:
        """As JSON."""
        one = self.request
        told: dict[str, Any] = {
            "id": self.message_id,
            "kind": "verification",
            "verification_id": one.verification_id,
            "decision_id": one.decision_id,
            "transaction_id": one.transaction_id,
            "customer_token": one.customer_token,
            "amount_base_minor": one.amount_base_minor,
            "link": self.link,
            "code": self.code,
            "expires_at": _time(one.expires_at),
        }
        return orjson.dumps(told)

    def title(self) -> str:
        """One line for people."""
        return "Was this payment yours?"

    def text(self) -> str:
        """For people."""
        return f"{self.link} - code {self.code}"


def _fields(alert: Alert) -> dict[str, Any]:
    if alert.outcome == OF_DRIFT:
        named = {"alert_id": alert.alert_id, "rule": alert.rule, "outcome": alert.outcome}
        return {**named, "reasons": [alert.reasons], "found_at": _time(alert.decided_at)}
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "decision_id": alert.decision_id,
        "card_token": alert.card_token,
        "customer_token": alert.customer_token,
        "outcome": alert.outcome,
        "risk": alert.risk,
        "score": alert.score,
        "amount_base_minor": alert.amount_base_minor,
        "reasons": alert.reasons.split(",") if alert.reasons else [],
        "decided_at": _time(alert.decided_at),
    }


def _line(alert: Alert) -> str:
    if alert.outcome == OF_DRIFT:
        return f"{alert.rule}: {alert.reasons}, alert {alert.alert_id}"
    parts = [f"{alert.rule}: {alert.outcome}", f"risk {alert.risk}" if alert.risk else ""]
    parts += ["" if alert.score is None else f"score {alert.score:.3f}", alert.reasons.replace(",", ", ")]
    parts += ["" if alert.amount_base_minor is None else f"amount {alert.amount_base_minor} (minor units)"]
    parts += [f"card {alert.card_token}", f"decision {alert.decision_id}", f"alert {alert.alert_id}"]
    return ", ".join(part for part in parts if part)


def _time(milliseconds: int) -> str:
    return time_of(milliseconds).isoformat(timespec="milliseconds")
