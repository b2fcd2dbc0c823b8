"""A world in which an engine decided under rules that changed on the way, and the lake over it."""

import threading
import time
from dataclasses import dataclass

import orjson

import bronze.job
import silver.job
from decisions.job import Process
from lakehouse import topics
from lakehouse.crypto import Tokens
from lakehouse.jobs import Context
from lakehouse.keys import source
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.single import read
from tests.decisions import logs, models
from tests.decisions.ruled import rule

PAYMENT = registry().latest("payment")
DECISION = registry().latest("decision")
LONG_AGO = logs.END_MS - 10**9
CUTS = {"challenge": 0.16, "review": 0.25, "decline": 0.4}
LOWER = {"challenge": 0.018, "review": 0.0195, "decline": 0.0212}
"""Of the second model's scores: two payments in three are declined, so that exploration lets some through."""


LARGE = rule("large", "amount_base_minor >= 20000", {"outcome": "review"})
REMOTE = rule("remote", "channel = 'ecom' AND amount_base_minor > 3000", {"score": 0.1})
LOOKED_AT = rule("looked-at", "card_life_tx_count >= 5", {"outcome": "decline"}, state="shadow")
LARGER = rule("large", "amount_base_minor >= 40000", {"outcome": "decline"}, version=2)


def payload(*rules):
    """The payload of scope `rules`."""
    return orjson.dumps({"rules": rules}, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True)
class World:
    """The world after its decisions."""

    settings: Settings
    context: Context
    decided: dict
    """Offset -> decision, as topic `decisions` has it."""
    first_model: str
    changed_at: int
    """Offset of the event that changed the rules."""
    end: int


def run_engine(settings, end):
    """Run an engine until it stands at an offset."""
    process = Process(settings)

    def watch():
        while process.engine.state.place.next_offset < end:
            time.sleep(0.05)
        process.stop(0, None)

    threading.Thread(target=watch, daemon=True).start()
    process.run()


def made(settings, context, folder):
    """Payments under a model, lists, a suppression and rules; then other rules, another model and exploration."""
    topics.ensure(settings)
    keys_folder, versions = logs.keys_folder(settings), {}
    one, two = (models.stored(settings.models.store, folder / str(seed), keys_folder, seed, CUTS) for seed in (0, 5))
    values = logs.payments(span=3, per_day=300)
    half = len(values) // 2
    paid = [read(PAYMENT, value) for value in values if value.startswith(PAYMENT.prefix)]
    tokens = Tokens(source(settings).keyring())

    def entry(name, kind, value):
        token = value if kind == "merchant" else tokens.texts(kind, [value.encode()])[0]
        return {"list": name, "kind": kind, "token": token, "reason": "a test", "expires_at": None}

    def control(scope, content):
        return logs.control(settings, versions, scope, content, LONG_AGO)

    blocked, allowed = paid[7]["card_number"], paid[-9]["merchant_id"]
    lists = {"add": [entry("block", "card", blocked), entry("allow", "merchant", allowed)]}
    quiet = tokens.texts("customer", [one.encode() for one in sorted({p["customer_id"] for p in paid[:99]})])
    until = {"rule": "remote", "reason": "travels", "until": logs.END_MS + 10**9}
    suppressed = [{"customer": one, **until} for one in quiet[:20]]
    cuts = {"cuts": LOWER, "exploration": {"share": 0.05, "up_to_minor": 10_000_000}}
    log = [
        logs.control(settings, versions, "reference", logs.reference(), LONG_AGO),
        *logs.model(settings, versions, one, LONG_AGO),
        control("lists", orjson.dumps({"remove": [], **lists}).decode()),
        control("rules", payload(LARGE, REMOTE, LOOKED_AT)),
        control("suppressions", orjson.dumps({"remove": [], "add": suppressed}).decode()),
        *values[:half],
    ]
    changed_at = len(log)
    log += [
        control("rules", payload(LARGER, REMOTE)),
        *values[half : half + 200],
        *logs.model(settings, versions, two, LONG_AGO),
        control("thresholds", orjson.dumps(cuts).decode()),
        *values[half + 200 :],
    ]
    # An engine that ends leaves a snapshot.
    for begin, end in ((0, changed_at), (changed_at, len(log))):
        logs.pay(settings, log[begin:end])
        run_engine(settings, end)
    bronze.job.run(context)
    silver.job.run(context)
    decided = {one["offset"]: one for one in logs.on(settings, topics.DECISIONS, DECISION)}
    return World(settings, context, decided, one, changed_at, len(log))
