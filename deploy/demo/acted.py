"""What rules, lists, alerts and customers did, read of the lake; DemoFailed where one of them did nothing."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.demo.customers import RESULTS, Told
from deploy.demo.lake import Lake
from deploy.demo.plan import DemoFailed
from deploy.demo.watching import HIT, NAME, RULE
from lakehouse import trail
from lakehouse.contracts import gold, silver
from lakehouse.settings import Settings

MORE = "Play more of the world: LIVE_SECONDS=30, RATE=200."
AGAIN = "Run `make demo` without CONTINUE."


def rules_fired(decisions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Decisions by rule, the most frequent first; DemoFailed where no rule fired."""
    found = Counter(name for row in decisions for name in row["rules_fired"] or ())
    if not found:
        raise DemoFailed("No rule fired.", MORE)
    return dict(found.most_common())


def live_rule(decisions: Sequence[Mapping[str, Any]], position: int) -> dict[str, Any]:
    """How the rule that was added at an offset of the log acted: behind it always, before it never, or DemoFailed."""
    watched = [row for row in decisions if HIT in (row["lists_hit"] or ())]
    fired = {row["offset"] for row in decisions if NAME in (row["rules_fired"] or ())}
    behind = {row["offset"] for row in watched if row["offset"] > position}
    if not fired:
        raise DemoFailed(f"Rule {NAME} was added at offset {position} and never fired.", MORE)
    if fired != behind:
        raise DemoFailed(
            f"Rule {NAME} is in force from offset {position} on, where {len(behind)} payments were of watched "
            f"merchants; it fired for {len(fired)}, first at offset {min(fired)}.",
            "`python -m decisions.replay` makes the decisions again.",
        )
    return {
        "rule": NAME,
        "position": position,
        "decisions_before": sum(row["offset"] < position for row in decisions),
        "list_hits": len(watched),
        "fired": len(fired),
    }


def customers(told: Told, ends: Mapping[str, str], effective: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Who was asked, what they said, and what became of it; DemoFailed where an answer is not in the lake."""
    if not told.answers:
        raise DemoFailed("No customer answered.", MORE)
    lost = [name for name, word in told.answers.items() if ends.get(name) != RESULTS[word]]
    if lost:
        raise DemoFailed(f"{len(lost)} answers are not in silver.outcomes, first that about {lost[0]}.")
    return {
        "asked": told.asked,
        "answers": dict(sorted(Counter(told.answers.values()).items())),
        "ends": dict(sorted(Counter(ends[name] for name in told.answers).items())),
        "effective_outcomes": dict(
            sorted(Counter(one for name in told.answers for one in effective.get(name, ())).items())
        ),
    }


def challenged(
    decisions: Sequence[Mapping[str, Any]], in_force: Sequence[tuple[int, str]], shadow: int
) -> dict[str, Any]:
    """Who decided between which offsets of the log; DemoFailed where a model decided outside of its own.

    `in_force`: offset and digest of every version of the model, the first champion's, the challenger's and its end.
    """
    if not shadow:
        raise DemoFailed("The challenger scored nothing in shadow.", MORE)
    if len(in_force) < 3:
        raise DemoFailed(f"{len(in_force)} models were put into force, not champion, challenger and champion.", AGAIN)
    (_, champion), (promoted, challenger), (back, last) = in_force[:3]
    by = {row["offset"] for row in decisions if row["model_digest"] == challenger}
    between = {row["offset"] for row in decisions if promoted < row["offset"] < back}
    if by != between or last != champion:
        raise DemoFailed(
            f"The challenger was in force between offsets {promoted} and {back}, where {len(between)} payments were "
            f"decided; it decided {len(by)}.",
            "`python -m decisions.replay` makes the decisions again.",
        )
    return {"challenger": challenger, "shadow": shadow, "promoted": promoted, "back": back, "decided": len(by)}


def judged(settings: Settings, digest: str) -> dict[str, str]:
    """What the audit trail says of a model's approval: on how much it was judged and what it saved, or why not."""
    found = [
        entry
        for entry in trail.entries(trail.place_of(settings))
        if entry.subject == digest and entry.action in ("promotion.approved", "promotion.refused")
    ]
    if not found:
        raise DemoFailed(f"The audit trail has no approval of model {digest[:12]}.", AGAIN)
    told = found[-1].details
    if found[-1].action == "promotion.refused":
        return {"refused": str(told["reason"]).splitlines()[0]}
    return {"evidence": str(told["evidence"]), "saved": str(told["money"]).split(";")[0]}


def acted(lake: Lake, told: Told, settings: Settings) -> dict[str, Any]:
    """Everything, for demo.json."""
    if not told.alerts:
        raise DemoFailed("No alert was delivered.", MORE)
    columns = ["offset", "decided_outcome", "rules_fired", "lists_hit", "model_digest"]
    decided = [row for row in lake.rows(gold.DECISIONS, columns).to_pylist() if row["decided_outcome"] != "rejected"]
    changes = lake.rows(silver.CONTROL, ["scope", "offset", "payload"]).to_pylist()
    added = [row["offset"] for row in changes if row["scope"] == "rules" and f'"{RULE["id"]}"' in row["payload"]]
    if not added:
        raise DemoFailed(f"silver.control has no version of the rules with {NAME}.", AGAIN)
    models = sorted((row["offset"], json.loads(row["payload"])["digest"]) for row in changes if row["scope"] == "model")
    in_shadow = [json.loads(row["payload"])["digest"] for row in changes if row["scope"] == "shadow"]
    if not in_shadow:
        raise DemoFailed("silver.control has no challenger in shadow.", AGAIN)
    tried = judged(settings, in_shadow[0])
    if "refused" not in tried:
        tried |= challenged(decided, models, lake.rows(silver.SHADOW, ["offset"]).num_rows)
    ended = lake.rows(silver.OUTCOMES, ["transaction_id", "result"]).to_pylist()
    return {
        "rules": rules_fired(decided),
        "live_rule": live_rule(decided, min(added)),
        "challenger": tried,
        "lists": dict(sorted(Counter(hit for row in decided for hit in row["lists_hit"] or ()).items())),
        "delivered": {"messages": told.messages, "alerts": told.alerts, "repeated": told.repeated},
        "customers": customers(told, {row["transaction_id"]: row["result"] for row in ended}, lake.effective()),
    }
