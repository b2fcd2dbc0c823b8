"""From an offered payment to its decision, open loop at steady rates, by the same sender in the same run.

Through the log, through the API, and through a plain endpoint on the same model (`plain.py`).
"""

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import models, place, plain, report
from benchmarks.engine import RULES, in_force, vectors
from benchmarks.filling import END_MS, send
from deploy.local.apart import free_ports
from deploy.local.process import port_answers
from lakehouse import broker, topics
from lakehouse import settings as conf
from lakehouse.settings import Settings
from simulator.live import Gate, Play
from simulator.options import Options
from simulator.outcomes import API, LOG, Outcomes
from simulator.playing import Score, bodies, score
from simulator.world import between, world

PER_DAY, WARM_DAYS = 20_000, 2
START_TIMEOUT_S, LAST_WAIT_S = 60, 20
PLAIN = "plain"
SLOWER = 20
"""The plain endpoint is also offered so many times fewer payments: a rate that it holds."""

Run = dict[tuple[str, float], dict[str, float]]
"""Figures by way and payments offered a second."""


@contextlib.contextmanager
def running(module: str, port: int, *arguments: str) -> Iterator[None]:
    """`python -m module`, answering on its port."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not port_answers(port):
                assert process.poll() is None, f"{module} ended at its start"
                assert time.monotonic() < deadline, f"{module} did not answer"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def part(sheet: Score, number: int, each: int, path: str, rate: float) -> Score:
    """Its part `number` of `each` payments, `rate` of them a second; other records go with the payment before them."""
    paid = np.cumsum(sheet.payment)
    rows = np.flatnonzero((paid > number * each) & (paid <= (number + 1) * each))
    payment, payload = sheet.payment[rows], [sheet.payload[row] for row in rows.tolist()]
    through_api = payment & (path != LOG)
    chosen = np.flatnonzero(through_api).tolist()
    return dataclasses.replace(
        sheet,
        due_s=np.cumsum(payment) / rate,
        payload=payload,
        partition=sheet.partition[rows],
        payment=payment,
        transaction_id=[sheet.transaction_id[row] for row in rows.tolist()],
        through_api=through_api,
        body=dict(zip(chosen, bodies([payload[row] for row in chosen]), strict=True)),
    )


def measured(outcomes: Outcomes) -> dict[str, float]:
    """Percentiles of (decided - intended); every payment was decided, or the benchmark fails."""
    mine = list(outcomes.by_id.values())
    assert mine
    assert all(o.decided_at is not None for o in mine), "a payment has no decision"
    late = np.array([(o.decided_at or 0) - o.intended_at for o in mine])
    p50, p95, p99, most = np.percentile(late, [50, 95, 99, 100]).tolist()
    degraded = sum(bool(o.degraded) for o in mine) / len(mine)
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": most, "degraded_share": degraded}


def _played(
    settings: Settings, sheet: Score, gates: Mapping[str, Gate], rate: float, each: int, runs: int
) -> list[Run]:
    """Every way, run after run; the first run is left out."""
    found = []
    ways = ((LOG, rate), (API, rate), (PLAIN, rate), (PLAIN, rate / SLOWER))
    for number in range(runs):
        one: Run = {}
        for path, offered in ways:
            # What the plain endpoint answers leaves no trace: it has the payments of the API once more.
            mine = part(sheet, 2 * number + (path != LOG), int(each * offered / rate), path, offered)
            playing = Play(settings, mine, gates.get(path), LAST_WAIT_S)
            one[path, offered] = measured(playing.run())
            text = ", ".join(f"{figure} {value:.3g}" for figure, value in one[path, offered].items())
            which, lag_ms = number or "to warm up", playing.worst_lag_s * 1000
            print(f"run {which}, {path} at {offered:g}/s: {text}; sender late by up to {lag_ms:.0f} ms", flush=True)
        found.append(one)
    return found[1:]


def _runs(settings: Settings, rate: float, seconds: float, seed: int, runs: int) -> list[Run]:
    """All ways on one engine that has seen two days before, under all rules."""
    runs += 1
    # A world's rate is that of a whole day; its quiet hours hold a third of it.
    live_s = 6 * runs * seconds
    options = Options(END_MS, days=WARM_DAYS, payments_per_day=PER_DAY, seed=seed, live_s=live_s, rate=rate)
    made = world(options)
    writer = broker.producer(settings, linger_ms=20)
    name = topics.topic_name(settings, topics.EVENTS)
    known = vectors(settings, seed)
    digest = models.store(settings, known, seed)
    send(writer, name, in_force(settings, digest, RULES))
    for day in between(made, options.start_ms, options.live_from_ms):
        send(writer, name, day.payload.to_list())
    writer.flush(60)
    sheet = score(made, 0.0, 1)
    each = int(rate * seconds)
    assert sheet.payment.sum() >= 2 * runs * each, "the world's live part is too short"
    key = (conf.resolve(settings.keys.folder) / "api-replay.key").read_text().strip()
    (port,) = free_ports(1)
    gates = {API: Gate(f"http://127.0.0.1:{settings.api.port}", key), PLAIN: Gate(f"http://127.0.0.1:{port}", "none")}
    with (
        tempfile.TemporaryDirectory() as folder,
        running("decisions.job", settings.engine.metrics_port),
        running("serving.job", settings.api.port),
    ):
        plain.prepared(settings, digest, known, Path(folder))
        _caught_up(settings)
        with running("benchmarks.plain", port, folder, str(port)):
            return _played(settings, sheet, gates, rate, each, runs)


def _caught_up(settings: Settings) -> None:
    """Wait until the engine stands at the end of the log."""
    _, end = broker.watermarks(settings, topics.topic_name(settings, topics.EVENTS), 0)
    deadline = time.monotonic() + START_TIMEOUT_S
    while _next_offset(settings.engine.metrics_port) < end:
        assert time.monotonic() < deadline, "the engine did not catch up"
        time.sleep(0.2)


def _next_offset(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("fraudlake_engine_next_offset "))


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    made = report.parser("decisions", __doc__, 200, "payments a second")
    made.add_argument("--seconds", type=float, default=20, help="of each path in each run (default 20)")
    given = made.parse_args(argv)
    with place.place() as settings:
        runs = _runs(settings, given.size, given.seconds, given.seed, given.runs)
    found = {way: report.medians([run[way] for run in runs]) for way in runs[0]}
    figures: dict[str, dict[str, dict[str, float]]] = {LOG: {}, API: {}, PLAIN: {}}
    for (path, offered), figure in found.items():
        figures[path][f"{offered:g}"] = figure
    report.finish("decisions", given.runs, {path: figures[path] for path in (LOG, API)}, {PLAIN: figures[PLAIN]})


if __name__ == "__main__":
    main(sys.argv[1:])
