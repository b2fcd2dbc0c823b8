"""A campaign: real processes under load are killed, paused, cut off and starved; then every source position is counted.

    make test-crash                                    # 200 kills over 100,000 records, more than an hour
    make test-crash KILLS=20 EVENTS=5000 SEED=7        # a short one
    python -m tests.campaign.job --seed 7 --kills 20 --only 12   # the world of a seed and one fault of its plan

Exit code 0: nothing lost, nothing doubled, everybody recovered in time; 1: not so; 2: the campaign itself failed.
"""

import argparse
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from lakehouse import jobs
from lakehouse.settings import home
from tests.campaign import judge
from tests.campaign.faults import Done, Faults, progress, ready
from tests.campaign.plan import ACTORS, Fault, plan
from tests.campaign.processes import Actor, Keeper
from tests.campaign.world import Sender, World, made, records

READY_S = 600.0
CATCH_UP_S = 1800.0
PATIENCE_S = 300.0
"""Who does not commit for so long after a fault has not recovered."""


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def _seconds(done: Done) -> str:
    return ", ".join(f"{n} {'never' if s is None else f'{s:.1f} s'}" for n, s in sorted(done.recovered_s.items()))


def _under_fire(world: World, faults: Sequence[Fault], payloads: list[bytes]) -> tuple[list[Done], dict[str, Actor]]:
    """Do the faults to the product under load; what they came to, and the processes, which have ended."""
    actors = {name: Actor(name, world.folder / f"{name}.log") for name in ACTORS}
    sender = Sender(world.settings, payloads)
    keeper = Keeper(actors)
    done: list[Done] = []
    try:
        for actor in actors.values():
            actor.start()
        sender.start()
        keeper.start()
        say("waiting for the first commits")
        ready(world, actors, READY_S)
        doing = Faults(world, actors, PATIENCE_S)
        for number, fault in enumerate(faults):
            sender.limit = len(payloads) * (number + 1) // (len(faults) + 1)
            done.append(doing.do(fault))
            killed = sum(one.killed for one in done)
            say(f"{fault.text()}: {_seconds(done[-1])} {done[-1].note}  [{killed} killed, {sender.sent:,} sent]")
        sender.limit = len(payloads)
        sender.join()
        say("everything sent; the engine catches up")
        _wait_for_engine(world, actors)
    finally:
        keeper.ending.set()
        keeper.join()
        for actor in actors.values():
            actor.end()
    return done, actors


def _wait_for_engine(world: World, actors: dict[str, Actor]) -> None:
    """Return when the engine writes nothing more."""
    deadline, before, since = time.monotonic() + CATCH_UP_S, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 10:
        now = progress(world.settings, "engine", 0)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.5)


def _lake_catches_up(world: World) -> int:
    """The exit code of one last scheduled pass over the lake."""
    passes = [sys.executable, "-m", "lakehouse.jobs", "bronze.job", "silver.job", "features.job", "--available-now"]
    with (world.folder / "last.log").open("wb") as log:
        return subprocess.run(passes, cwd=home(), stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _audited() -> int | None:
    """The exit code of the independent auditor; None where it is not part of this release."""
    if importlib.util.find_spec("audit") is None:
        return None
    # Standard output is the report's.
    return subprocess.run([sys.executable, "-m", "audit"], cwd=home(), stdout=sys.stderr, check=False).returncode


def campaign(seed: int, kills: int, events: int, only: Sequence[int], recovery_s: float, keep: bool) -> dict[str, Any]:
    """Run it; the report."""
    faults = [fault for fault in plan(seed, kills) if not only or fault.number in only]
    began = time.monotonic()
    with made(keep) as world:
        say(f"seed {seed}: {len(faults)} faults over {events:,} records in {world.folder}")
        done, actors = _under_fire(world, faults, records(events, seed))
        last = _lake_catches_up(world)
        counts = judge.judged(world.settings)
        for line in judge.table(counts):
            say(line)
        audited = _audited()
        if last:
            say((world.folder / "last.log").read_text()[-2000:])
    late = [one for one in done if any(s is None or s > recovery_s for s in one.recovered_s.values())]
    times = [s for one in done for s in one.recovered_s.values() if s is not None]
    return {
        "seed": seed,
        "events": events,
        "faults": [{**asdict(one), "text": one.fault.text()} for one in done],
        "killed": sum(one.killed for one in done),
        "recovery_s": {"limit": recovery_s, "worst": max(times, default=0.0), "late": [o.fault.text() for o in late]},
        "restarts": {name: actor.starts for name, actor in actors.items()},
        "ended_by_themselves": {name: actor.exits for name, actor in actors.items()},
        "last_pass": last,
        "layers": [one.described() for one in counts],
        "auditor": audited,
        "seconds": round(time.monotonic() - began, 1),
        "passed": not late and last == 0 and all(one.good for one in counts) and not audited,
    }


def main(argv: Sequence[str]) -> int:
    """Run a campaign and print its report as JSON; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign.job", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs at least")
    parser.add_argument("--events", type=int, default=100_000, help="records sent")
    parser.add_argument("--seed", type=int, default=1, help="of records and faults")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="N", help="only these faults of the plan")
    parser.add_argument("--recovery-s", type=float, default=60.0, help="longest time to the first new commit")
    parser.add_argument("--report", type=Path, help="also write the report here")
    parser.add_argument("--keep", action="store_true", help="leave the world's files for a look")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it leaves no process behind
    found: dict[str, Any] = {}

    def work() -> None:
        found.update(campaign(given.seed, given.kills, given.events, given.only, given.recovery_s, given.keep))

    if jobs.guarded(work) or not found:
        return 2
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    if given.report:
        given.report.write_text(text)
    print(text)
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
