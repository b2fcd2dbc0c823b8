"""Decisions made again from the log and compared with those that were given, to the byte.

    python -m decisions.replay --sample 10000
    python -m decisions.replay --from-position 250000 --to-position 260000 --snapshot FILE

The engine of this release begins at a snapshot in front of the first decision and takes the same records again, with
every change of rules and models where it lies in the log; nothing is written to a topic. A body has everything but the
time and place of its emission. Exit code 0: all equal; 1: some differ, or one was given and is not made (or the other
way round); 2: it could not be tried.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from decisions.engine import Engine
from decisions.keeping import folders
from decisions.ladder import RUNGS, STATIC
from decisions.record import Envelope, body_digest, sealed
from decisions.stretch import PARTITION, state_before, stretch
from features import snapshot
from features.store import check_tokens
from lakehouse import broker, jobs, topics
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, RangeMissing
from lakehouse.fencing import Fence
from lakehouse.log import configure
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.single import read

SHOWN = 10
_DECISION, _START = registry().latest("decision"), registry().latest("engine_start")
_NOWHERE = Envelope(0, 0, 0, "", "")


@dataclass
class Comparison:
    """What a replay found."""

    start: int
    end: int
    """Offsets of topic `events` that were compared: [start, end)."""
    base: str | None
    """The snapshot it began from."""
    given: int = 0
    equal: int = 0
    controls: int = 0
    """Sets of rules, models and tables that were in force one after the other."""
    different: dict[int, list[str]] = field(default_factory=dict)
    """Offset -> the fields that differ, of the first few."""
    differing: int = 0
    not_made: list[int] = field(default_factory=list)
    not_given: list[int] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything that was given was made again to the byte, and nothing else."""
        return self.given == self.equal and not self.not_given

    def as_json(self) -> str:
        """The report of a machine."""
        return orjson.dumps({**self.__dict__, "passed": self.passed}, option=orjson.OPT_NON_STR_KEYS).decode()

    def as_text(self) -> str:
        """The report for people."""
        lines = [
            f"offsets {self.start:,} to {self.end:,}, from {self.base or 'an empty state'}: {self.given:,} decisions "
            f"given, {self.equal:,} made again to the byte, under {self.controls} states of control"
        ]
        lines += [f"offset {offset}: {', '.join(names)} differ" for offset, names in self.different.items()]
        for what, offsets in (("given, but not made again", self.not_made), ("made, but never given", self.not_given)):
            if offsets:
                lines.append(f"{len(offsets)} {what}: offsets {', '.join(map(str, offsets[:SHOWN]))}")
        return "\n".join(lines)


def given(settings: Settings, first: int, at_most: int | None) -> Iterator[bytes]:
    """Decisions that count of the newest `at_most` records of their topic (None: all), about offsets from `first`."""
    name = topics.topic_name(settings, topics.DECISIONS)
    low, high = broker.watermarks(settings, name, PARTITION)
    begin = low if at_most is None else max(low, high - at_most)
    fence = Fence() if begin == low else None
    for messages in broker.batches(settings, name, PARTITION, begin, high, settings.engine.batch_records):
        for message in messages:
            value = message.value() or b""
            if value[:PREFIX_BYTES] == _START.prefix:
                fence = fence or Fence()
                fence.start(message.offset())
            elif value[:PREFIX_BYTES] == _DECISION.prefix:
                found = read(_DECISION, value)
                # Whoever begins in the middle takes the engine that is found there as the one in office.
                fence = fence or Fence(found["epoch"])
                if fence.counts(found["epoch"], found["offset"]) and found["offset"] >= first:
                    yield value


def newest(settings: Settings, first: int, count: int) -> list[bytes]:
    """The newest `count` decisions that count, about offsets from `first`; fewer where the topic has no more."""
    name = topics.topic_name(settings, topics.DECISIONS)
    low, high = broker.watermarks(settings, name, PARTITION)
    at_most = count
    while True:
        found = list(given(settings, first, at_most))
        # Reasons, starts of engines and the broker's marks lie between decisions.
        if len(found) >= count or at_most >= high - low:
            return found[-count:]
        at_most *= 2


def _base(settings: Settings, start: int) -> Path | None:
    """The newest snapshot that stands at or in front of an offset."""
    for path in snapshot.newest(folders(settings)):
        if snapshot.position(path) <= start:
            return path
    return None


def differing(one: bytes, other: bytes) -> list[str]:
    """Names of the fields in which the bodies of two records differ."""
    a, b = read(_DECISION, one), read(_DECISION, other)
    names = [f["name"] for f in _DECISION.parsed["fields"]]
    return [name for name in names[: names.index("epoch")] if a[name] != b[name]]


def replayed(settings: Settings, start: int, end: int | None, at_most: int | None, base: Path | None) -> Comparison:
    """Make decisions again and compare; `at_most` of the newest, or those whose records lie in [start, end)."""
    chosen_ones = given(settings, start, None) if at_most is None else newest(settings, start, at_most)
    told: Mapping[int, bytes] = {read(_DECISION, one)["offset"]: one for one in chosen_ones}
    wanted = {at: one for at, one in told.items() if end is None or at < end}
    if not wanted:
        raise RangeMissing(
            f"Topic {topics.topic_name(settings, topics.DECISIONS)} holds no decision of these offsets.",
            "Choose others: `python -m decisions.replay --sample 10000` takes the newest.",
        )
    first, last = min(wanted), max(wanted)
    identity = topics.identify(settings, topics.EVENTS)
    chosen = _base(settings, first) if base is None else base
    state = state_before(settings, identity.topic_id, chosen, first)
    # What lies before is taken for the state alone; its decisions are compared with nothing and need no model.
    rungs = {at: read(_DECISION, one)["rung"] for at, one in wanted.items()}
    engine = Engine.of(settings, state, lambda offset: rungs.get(offset, RUNGS[STATIC]))
    found = Comparison(first, last + 1, None if chosen is None else chosen.name, len(wanted))
    waiting = dict(wanted)
    under: set[bytes] = set()
    for messages in stretch(settings, identity.name, state.place.next_offset, last + 1):
        for body in engine.decide(messages):
            (control,) = set(body.texts("control_digest"))
            for offset, made in zip(body.offset.tolist(), body.encoded(), strict=True):
                if offset < first:
                    continue
                under.add(control)
                before = waiting.pop(offset, None)
                if before is None:
                    found.not_given.append(offset)
                elif before.startswith(made) and read(_DECISION, before)["body_digest"] == body_digest(made):
                    found.equal += 1
                else:
                    found.differing += 1
                    if len(found.different) < SHOWN:
                        found.different[offset] = differing(before, sealed([made], _NOWHERE)[0]) or ["the encoding"]
    if state.place.next_offset <= last:
        check_tokens(state)
    found.not_made, found.controls = sorted(waiting), len(under)
    return found


def main(argv: Sequence[str]) -> int:
    """Replay and compare."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--sample", type=int, metavar="N", help="the newest N decisions")
    parser.add_argument("--from-position", type=int, default=0, metavar="OFFSET", help="first offset of topic `events`")
    parser.add_argument("--to-position", type=int, metavar="OFFSET", help="offset after the last one (default: all)")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="begin from it (default: the newest in front)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    arguments = parser.parse_args(argv)
    reports: list[Comparison] = []

    def work() -> None:
        settings = conf.load(arguments.env)
        configure(settings, "replay")
        if arguments.sample is not None and arguments.sample < 1:
            raise FraudlakeError("--sample must be at least 1.")
        interval = (arguments.from_position, arguments.to_position or 0)
        with recorded(settings, "decisions.replay", "replay", interval):
            start, end = arguments.from_position, arguments.to_position
            reports.append(replayed(settings, start, end, arguments.sample, arguments.snapshot))
        print(reports[0].as_json() if arguments.json else reports[0].as_text())

    if jobs.guarded(work) or not reports:
        return 2
    return int(not reports[0].passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
