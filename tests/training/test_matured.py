"""What a champion would have decided is compared, by labels that count; exploration is nobody's judgement."""

from datetime import timedelta

from expectations.rules.rule_set import OUTCOMES
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.label_ledger import Trust
from tests.filled import DAY_1, row
from training import matured

TRUST = Trust(("chargeback", "customer"), 0.5)


def test_what_exploration_let_through_was_declined_and_a_rule_s_label_is_none(settings):
    root, late = settings.lake.root, DAY_1 + timedelta(days=30)
    models = {"model_digest": "b" * 64, "champion_digest": "a" * 64, "champion_score": 0.9, "score": 0.9}
    said = [
        row(
            silver.SHADOW,
            n,
            transaction_id=f"t{n}",
            event_time=DAY_1,
            outcome="decline",
            champion_outcome=one,
            **models,
        )
        for n, one in enumerate(("approve", "approve", "decline"))
    ]
    delta.append(root, silver.SHADOW, said)
    delta.append(root, silver.PAYMENTS, [row(silver.PAYMENTS, n, transaction_id=f"t{n}") for n in range(3)])
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, 9, engine_clock=late)])
    decided = [row(silver.DECISIONS, n, explored_from="decline" if n == 1 else None) for n in range(3)]
    delta.append(root, silver.DECISIONS, decided)
    words = ((0, "rule", True), (1, "customer", False), (1, "chargeback", True), (2, "customer", True))
    labels = [
        row(silver.LABELS, 10 + n, label_id=f"l{n}", transaction_id=f"t{of}", source=source, is_fraud=fraud)
        for n, (of, source, fraud) in enumerate(words)
    ]
    delta.append(root, silver.LABELS, labels)
    found = matured.read(root, "a" * 64, "b" * 64, 7, TRUST).pairs
    assert [OUTCOMES[one] for one in found.champion] == ["approve", "decline", "decline"]
    assert found.fraud.tolist() == [False, True, True]
