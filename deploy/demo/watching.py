"""What the demo changes while payments flow: merchants to watch, and a rule that challenges who pays them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.demo.lake import Lake
from lakehouse.contracts import silver

HIT = "watch:merchant"
"""How a decision names such an entry."""
RULE: Mapping[str, Any] = {
    "id": "watched-merchant",
    "version": 1,
    "state": "active",
    "sql": "merchant_on_watch_list",
    "action": {"outcome": "challenge"},
    "reason_code": "WATCHED_MERCHANT",
    "sentence": "A merchant that is on the watch list.",
    "owner": "fraud-strategy",
    "pattern": None,
    "valid_from": None,
    "valid_to": None,
    "tests": {
        "matching": [{"merchant_on_watch_list": True}],
        "not_matching": [{"merchant_on_watch_list": False}, {}],
    },
}
NAME = f"{RULE['id']}@{RULE['version']}"
LEAST_REPORTS = 2
"""One fraud may happen to anybody."""
WATCHED_SHARE, WATCHED_MOST = 0.01, 100
"""Of payments, and of those of a live part: enough for a short one to meet some, and of a long one few to be asked."""


def with_rule(shipped: str) -> str:
    """The text of a rules file with the demo's rule behind the others."""
    content = json.loads(shipped)
    return json.dumps({**content, "rules": [*content["rules"], RULE]}, indent=1)


def watched_share(live_payments: float) -> float:
    """Of all payments how many to watch, before a live part of about so many."""
    return min(WATCHED_SHARE, WATCHED_MOST / live_payments)


def worst(payments: Mapping[str, int], reports: Mapping[str, int], share: float) -> list[str]:
    """Of merchants with some reported frauds those where the largest share of payments is one, worst first.

    As many as have a share of all payments; by name where two are alike, so that equal worlds watch the same.
    """
    ranked = sorted(
        (name for name, n in reports.items() if n >= LEAST_REPORTS and name in payments),
        key=lambda name: (-reports[name] / payments[name], name),
    )
    enough, found = share * sum(payments.values()), 0
    out = []
    for name in ranked:
        if found >= enough:
            break
        out.append(name)
        found += payments[name]
    return out


def worst_of(lake: Lake, share: float) -> Sequence[str]:
    """The same of what the lake has."""
    payments = Counter(lake.rows(silver.PAYMENTS, ["merchant_id"]).column("merchant_id").to_pylist())
    labels = lake.rows(silver.LABELS, ["merchant_id", "is_fraud"]).to_pylist()
    return worst(payments, Counter(row["merchant_id"] for row in labels if row["is_fraud"]), share)
