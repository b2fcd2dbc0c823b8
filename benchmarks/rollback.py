"""How long a model that breaks a guard rail still decides, and whether a payment is lost on the way there and back.

A challenger is put into force while payments flow; its guard rail for latency allows nothing, so it is broken as soon
as the guard looks at enough payments. Counted is from that payment to the first one that the champion decided again.
"""

import sys
import threading
import time
from collections.abc import Sequence

from benchmarks import models, place, report
from benchmarks.decisions import running
from benchmarks.engine import in_force, vectors
from benchmarks.filling import END_MS, options, send
from lakehouse import broker, topics
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings
from lakehouse.single import read
from simulator.world import days, world
from training import promotion
from training.following import guarded
from training.promotion import Signers

SECONDS = 40.0
"""Of payments: some before the promotion, some after the way back."""
BEFORE_S = 2.0
LAST_WAIT_S = 60.0


def _played(settings: Settings, values: list[bytes], rate: float) -> threading.Thread:
    """A thread that writes payments at a rate."""

    def play() -> None:
        writer, name, began = broker.producer(settings), topics.topic_name(settings, topics.EVENTS), time.monotonic()
        for at, value in enumerate(values):
            time.sleep(max(0.0, began + at / rate - time.monotonic()))
            send(writer, name, [value])
            writer.poll(0)
        writer.flush(60)

    thread = threading.Thread(target=play)
    thread.start()
    return thread


def _decided(settings: Settings, wanted: int) -> list[tuple[int, str, int]]:
    """(source offset, model, when it was decided) of all decisions, once there are as many as payments."""
    schema, name = registry().latest("decision"), topics.topic_name(settings, topics.DECISIONS)
    deadline = time.monotonic() + LAST_WAIT_S
    while True:
        _, end = broker.watermarks(settings, name, 0)
        values = [message.value() or b"" for message in broker.read_range(settings, name, 0, 0, end)]
        found = [read(schema, value) for value in values if value[:PREFIX_BYTES] == schema.prefix]
        if len(found) >= wanted or time.monotonic() > deadline:
            return [(one["offset"], one["model_digest"], one["decided_at"]) for one in found]
        time.sleep(0.2)


def once(settings: Settings, champion: str, challenger: str, rate: float, seed: int) -> dict[str, float]:
    """One promotion and its way back."""
    by, least = Signers.local(settings), settings.guard.least_payments
    payment = registry().latest("payment").prefix
    values = [value for day in days(world(options(20_000, seed))) for value in day.records.payload.to_list()]
    paid = [value for value in values if value[:PREFIX_BYTES] == payment][: int(rate * SECONDS)]
    writer = broker.producer(settings)
    send(writer, topics.topic_name(settings, topics.EVENTS), in_force(settings, champion))
    writer.flush(60)
    with running("decisions.job", settings.engine.metrics_port):
        promotion.approve(settings, challenger, by, "a benchmark", received_ms=END_MS - 10**10)
        player = _played(settings, paid, rate)
        time.sleep(BEFORE_S)
        promoted = promotion.promote(settings, challenger, END_MS - 10**10)
        assert not guarded(settings, challenger, print), "the guard rail held"
        player.join()
        found = _decided(settings, len(paid))
    ours = [when for offset, model, when in found if model == challenger and offset > promoted]
    again = [when for offset, model, when in found if model == champion and offset > promoted]
    assert again, "the champion decided nothing after the way back: more payments are needed"
    broken_ms = sorted(ours)[least - 1]
    # A median over runs would not show the loss of one of them.
    lost = len(paid) - len({offset for offset, _, _ in found})
    assert not lost, f"{lost} of {len(paid)} payments have no decision"
    return {"seconds_to_go_back": (again[0] - broken_ms) / 1000, "lost_payments": float(lost)}


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("rollback", __doc__, 500, "payments a second").parse_args(argv)
    runs = []
    for _ in range(given.runs):
        with place.place() as settings:
            X = vectors(settings, given.seed)
            champion, challenger = (models.store(settings, X, given.seed + n) for n in range(2))
            own = settings.model_copy(update={"guard": settings.guard.model_copy(update={"latency_ms": 1e-6})})
            runs.append(once(own, champion, challenger, given.size, given.seed))
        print(runs[-1])
    report.finish("rollback", given.runs, report.medians(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
