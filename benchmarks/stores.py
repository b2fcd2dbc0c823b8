"""Stores of decisions side by side: how fast they take decisions in, and a card's last 20 at a steady rate of reads."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import place, report
from deploy.local import cassandra, postgres
from deploy.local import job as services
from lakehouse.latency import prepare_for_latency
from lakehouse.settings import Settings
from serving import stores
from serving.cards import READERS
from serving.decision_store import DecisionStore, Progress, StoredDecision

KINDS = ("sqlite", "postgres", "cassandra")
PAGE = 20
DECISIONS_PER_CARD = 50
WARM_S = 2.0
BAR_MS = 10.0
"""The p99 that people and other systems are promised."""


def decisions(first: int, count: int, cards: int) -> list[StoredDecision]:
    """Decisions as the engine makes them, of one card after the other."""
    return [
        StoredDecision(
            card_token=f"v1:{n % cards:043d}",
            engine_clock=1_795_000_000_000 + n,
            offset=n,
            partition=0,
            topic_id="benchmark-topic-000000",
            decision_id=f"{n:064x}",
            transaction_id=f"transaction-{n:024d}",
            event_time=1_795_000_000_000 + n,
            decided_at=1_795_000_000_000 + n,
            merchant_id=f"merchant-{n % 997}",
            amount_base_minor=100 + n % 100_000,
            outcome="approve",
            risk="low",
            score=n % 1_000_000 / 1e6,
            rung="full",
            rejected_by=(),
            model_digest="ab" * 32,
            control_digest="cd" * 32,
        )
        for n in range(first, first + count)
    ]


def filled(store: DecisionStore, rows: int, cards: int, batch: int) -> float:
    """Decisions a second that the store took in, batch after batch, each durable before the next."""
    batches = [decisions(first, min(batch, rows - first), cards) for first in range(0, rows, batch)]
    began = time.perf_counter()
    for one in batches:
        store.write(one, [], Progress("benchmark-topic-000000", 0, 0, one[-1].offset + 1))
    return rows / (time.perf_counter() - began)


def read(store: DecisionStore, cards: int, rate: float, seconds: float, seed: int) -> dict[str, float]:
    """Percentiles of (read - intended), open loop: no read waits for another but for one of the API's threads."""
    count = int(rate * (WARM_S + seconds))
    whose = [f"v1:{card:043d}" for card in np.random.default_rng(seed).integers(0, cards, count).tolist()]
    due_s = np.arange(count) / rate
    late_s = np.full(count, np.nan)

    def one(number: int) -> None:
        found = store.of_card(whose[number], PAGE)
        assert len(found) == PAGE, "a card has fewer decisions than were written"
        late_s[number] = time.perf_counter() - began - due_s[number]

    with ThreadPoolExecutor(READERS) as threads:
        began = time.perf_counter() + 0.1
        asked = []
        for number, due in enumerate(due_s.tolist()):
            if (wait := began + due - time.perf_counter()) > 0:
                time.sleep(wait)
            asked.append(threads.submit(one, number))
        for answer in asked:
            answer.result()
    p50, p99, most = np.percentile(late_s[due_s >= WARM_S] * 1000, [50, 99, 100]).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "max_ms": most}


@contextlib.contextmanager
def opened(settings: Settings, name: str) -> Iterator[DecisionStore]:
    """The store of a kind."""
    kind = settings.decision_store.model_copy(update={"kind": name})
    store = stores.opened(settings.model_copy(update={"decision_store": kind}))
    try:
        yield store
    finally:
        store.close()


def _runs(settings: Settings, rate: float, seconds: float, seed: int, runs: int, rows: int) -> list[dict[str, float]]:
    cards = rows // DECISIONS_PER_CARD
    found: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        stores = {name: stack.enter_context(opened(settings, name)) for name in KINDS}
        written = {}
        for name, store in stores.items():
            written[name] = filled(store, rows, cards, settings.decision_store.batch_records)
            print(f"{name}: {written[name]:,.0f} decisions a second written")
        # A node on the JVM is compiled while it is read: the first run is to warm up, and left out.
        for number in range(runs + 1):
            one: dict[str, float] = {}
            for name, store in stores.items():
                figures = read(store, cards, rate, seconds, seed + number)
                print(
                    f"run {number or 'to warm up'}, {name}: "
                    + ", ".join(f"{what} {ms:.2f}" for what, ms in figures.items())
                )
                one |= {f"{name} {what}": ms for what, ms in figures.items()} | {f"{name} writes_s": written[name]}
            found.append(one)
    return found[1:]


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("stores", __doc__, 500, "reads a second")
    made.add_argument("--seconds", type=float, default=20, help="of reads from each store in each run (default 20)")
    made.add_argument("--rows", type=int, default=50_000, help="decisions in each store (default 50000)")
    given = made.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-benchmark-"))
    try:
        with place.apart(folder) as settings:
            services.up(settings, (postgres, cassandra))
            prepare_for_latency()
            runs = _runs(settings, given.size, given.seconds, given.seed, given.runs, given.rows)
    finally:
        for name in (postgres.NAME, cassandra.NAME):
            services.service(name, folder / "services").stop()
        shutil.rmtree(folder, ignore_errors=True)
    medians = report.medians(runs)
    figures = {name: {what: medians[f"{name} {what}"] for what in ("p50_ms", "p99_ms", "writes_s")} for name in KINDS}
    report.finish("stores", given.runs, figures, {"p99_ms_at_most": BAR_MS})


if __name__ == "__main__":
    main(sys.argv[1:])
