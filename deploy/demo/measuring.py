"""The figures of a demo run, each computed from tables, topics' results and the truth file."""

import json
from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

from deploy.demo.acted import acted
from deploy.demo.customers import Told
from deploy.demo.lake import Lake, Truth
from deploy.demo.plan import DemoFailed, Plan
from deploy.demo.steps import Steps
from lakehouse.contracts import gold
from lakehouse.errors import BalanceBroken
from lakehouse.settings import Settings

Doubles = npt.NDArray[np.float64]
NOT_APPROVED = ("challenge", "review", "decline")
LEAST_ACCEPTED_SHARE = 0.999
"""Of recorded payments; of a synthetic world's valid payments, all."""


def history_end_ms(plan: Plan) -> int:
    """World time at which the history ends, by the simulator's manifest."""
    manifest = json.loads(plan.manifest.read_text())
    past = manifest["replay"] if plan.data else manifest["history"]
    text = past["last_received_at"] if plan.data else past["options"]["history_ends_at"]
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def detection(plan: Plan, truth: Truth, budget_per_1000: float) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    """(ranking figures on the last days, payments and detected ones by pattern), against the truth.

    Detected is what is among the highest scores that the alert budget lets people look at.
    """
    rows = pq.read_table(plan.predictions)
    index = {t: i for i, t in enumerate(truth.transaction_id)}
    at = np.array([index[t] for t in rows.column("transaction_id").to_pylist()])
    fraud = truth.is_fraud[at]
    score: dict[str, Doubles] = {n: rows.column(n).to_numpy() for n in ("ensemble", "logistic", "amount_only")}
    looked_at = np.argsort(-score["ensemble"], kind="stable")[: max(1, int(len(at) * budget_per_1000 / 1000))]
    found = np.zeros(len(at), np.bool_)
    found[looked_at] = True
    patterns: dict[str, dict[str, int]] = {}
    for row in np.flatnonzero(fraud).tolist():
        name = truth.scenario[int(at[row])] or "unnamed"
        one = patterns.setdefault(name, {"payments": 0, "detected": 0})
        one["payments"] += 1
        one["detected"] += int(found[row])
    figures = {
        "ap": float(average_precision_score(fraud, score["ensemble"])),
        "recall_at_budget": float(found[fraud].mean()) if fraud.any() else float("nan"),
        "logistic_ap": float(average_precision_score(fraud, score["logistic"])),
        "amount_only_ap": float(average_precision_score(fraud, score["amount_only"])),
        "payments": float(len(at)),
        "frauds": float(fraud.sum()),
    }
    return figures, dict(sorted(patterns.items()))


def live(plan: Plan, lake: Lake) -> dict[str, Any]:
    """What became of the live payments, and how fast."""
    rows = pq.read_table(plan.live_results).to_pylist()
    decided = [row for row in rows if row["decided_at"] is not None]
    latency = np.array([row["decided_at"] - row["intended_at"] for row in decided], np.float64)
    effective = lake.effective()
    outcomes: Counter[str] = Counter()
    for row in rows:
        found = effective.get(row["transaction_id"], [])
        if len(found) != 1:
            raise DemoFailed(f"Live payment {row['transaction_id']} has {len(found)} effective outcomes, not one.")
        outcomes[found[0]] += 1
    p50, p95, p99 = (float(np.percentile(latency, q)) if len(latency) else float("nan") for q in (50, 95, 99))
    return {
        "payments": len(rows),
        "answered": sum(row["path"] == "api" and row["http_status"] == 200 for row in rows),
        "decided": len(decided),
        "degraded_share": sum(bool(row["degraded"]) for row in rows) / max(1, len(rows)),
        "effective_outcomes": dict(sorted(outcomes.items())),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


def accepted(plan: Plan, truth: Truth, lake: Lake) -> float:
    """Share of the generated valid payments that silver accepted; DemoFailed when it is too small."""
    held = lake.accepted()
    lacking = [t for t in truth.transaction_id if t not in held]
    share = 1 - len(lacking) / max(1, len(truth.transaction_id))
    if (plan.data and share < LEAST_ACCEPTED_SHARE) or (not plan.data and lacking):
        raise DemoFailed(
            f"{len(lacking)} of {len(truth.transaction_id)} valid payments were not accepted, first {lacking[0]}.",
            "silver.quarantine says why.",
        )
    return share


def check_quarantine(plan: Plan, lake: Lake) -> None:
    """DemoFailed where quarantine and duplicates are not what the simulator's faulty records must come to."""
    expected = json.loads(plan.manifest.read_text()).get("history", {}).get("expected")
    if expected is None:
        return
    wanted = {**expected["quarantined"], "conflict": expected["conflicts"]}
    found, duplicates = lake.quarantine(), lake.duplicates_of_history()
    if found != {name: n for name, n in wanted.items() if n} or duplicates != expected["duplicates"]:
        raise DemoFailed(
            f"The history's faulty records must come to {wanted} and {expected['duplicates']} duplicates; the lake has "
            f"{found} and {duplicates}.",
            "silver.quarantine and silver.duplicates hold position and reason of each.",
        )


def report(
    plan: Plan,
    settings: Settings,
    lake: Lake,
    steps: Steps,
    addresses: dict[str, str],
    audit: dict[str, Any],
    told: Told | None,
) -> dict[str, Any]:
    """Everything, as .fraudlake/demo.json holds it; DemoFailed or BalanceBroken where something does not add up.

    `told` is what was delivered and answered; None without a live part.
    """
    truth = Truth.of(plan)
    balance = lake.balance()
    if balance["received"] != balance["accepted"] + balance["quarantined"] + balance["duplicates"]:
        raise BalanceBroken(f"silver.balance does not add up: {balance}.")
    figures, patterns = detection(plan, truth, settings.training.alert_budget_per_1000)
    known = lake.rows(gold.TRAINING_SET, ["is_fraud", "is_mature"])
    now = int(pc.sum(pc.and_(known.column("is_fraud"), known.column("is_mature"))).as_py() or 0)
    check_quarantine(plan, lake)
    live_figures = live(plan, lake) if plan.live_results.exists() else None
    outcomes = live_figures["effective_outcomes"] if live_figures else {}
    return {
        "run_id": plan.run_id,
        "seed": plan.seed,
        "seconds": round(steps.elapsed_s, 1),
        "steps": steps.seconds,
        "layers": lake.counts(),
        "quarantine": lake.quarantine(),
        "balance": {**balance, "ok": True},
        "accepted_share": accepted(plan, truth, lake),
        "labels_available": now,
        "detection": figures,
        "patterns": patterns,
        "live": live_figures,
        "acted": None if told is None else acted(lake, told, settings),
        "alerts": sum(outcomes.get(name, 0) for name in NOT_APPROVED),
        "audit": audit,
        "addresses": addresses,
        "manifest": json.loads(plan.manifest.read_text()),
    }
