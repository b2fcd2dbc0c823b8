"""From a decision to its alerts: pure, so that whoever reads the log again finds the same ones.

Of a payment there are tokens, an amount, the outcome and its reasons; nothing that a refused payment could claim.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.alert_settings import AlertRule

CRITICAL = "critical"
OF_DRIFT = "drift"
"""In place of an outcome: an alarm of the drift watch (drift.py), which has no decision, card and customer."""


@dataclass(frozen=True)
class Alert:
    """A decision and a rule that it matches; times in milliseconds."""

    alert_id: str
    rule: str
    decision_id: str
    card_token: str
    customer_token: str
    outcome: str
    risk: str | None
    score: float | None
    amount_base_minor: int | None
    reasons: str
    """Codes with commas between, in order."""
    decided_at: int
    repeat_key: str
    """The same for alerts of one card for the same reasons."""

    @property
    def is_critical(self) -> bool:
        """Whether it passes quiet hours."""
        return self.risk == CRITICAL


def digest(*parts: str) -> str:
    """128 bits over some texts, in hexadecimal; each with its length, so that no two lists of texts are one."""
    told = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def alert_id(decision_id: str, rule: str) -> str:
    """Of a decision and a rule; the same whoever reads the log, and whenever."""
    return digest("alert", decision_id, rule)


def matches(rule: AlertRule, decision: Mapping[str, Any]) -> bool:
    """Whether a decision has one of each that the rule names."""
    return (
        not rule.drift
        and (not rule.outcomes or decision["outcome"] in rule.outcomes)
        and (not rule.risks or decision["risk"] in rule.risks)
        and (not rule.reason_codes or not rule.reason_codes.isdisjoint(decision["reason_codes"]))
    )


def alerts(rules: Sequence[AlertRule], decision: Mapping[str, Any]) -> list[Alert]:
    """The alerts of a decision, one a rule that it matches."""
    return [_alert(rule, decision) for rule in rules if matches(rule, decision)]


def _alert(rule: AlertRule, decision: Mapping[str, Any]) -> Alert:
    reasons = ",".join(sorted(set(decision["reason_codes"]) | set(decision["rejected_by"])))
    # What is critical is no repeat of what was not.
    key = digest(rule.name, decision["card_token"], reasons or decision["outcome"], str(decision["risk"] == CRITICAL))
    return Alert(
        alert_id=alert_id(decision["decision_id"], rule.name),
        rule=rule.name,
        decision_id=decision["decision_id"],
        card_token=decision["card_token"],
        customer_token=decision["customer_token"],
        outcome=decision["outcome"],
        risk=decision["risk"],
        score=decision["score"],
        amount_base_minor=decision["amount_base_minor"],
        reasons=reasons,
        decided_at=decision["decided_at"],
        repeat_key=key,
    )
