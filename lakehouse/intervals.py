"""Driving a job by source position: the next range that the source table has and the target has not.

Position is all the bookkeeping there is, and it lies in the tables' own commits, so there is no checkpoint to lose and
compaction of the source changes nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from lakehouse.errors import RangeMissing
from lakehouse.expired import first_held
from lakehouse.jobs import Context, Interval
from lakehouse.log import logger
from lakehouse.storage import Span, written_ends
from lakehouse.tables import Table

IDLE_S = 1.0


def spans_between(done: Mapping[str, int], ready: Mapping[str, int], at_most: int) -> list[Span]:
    """For every partition that is behind, its next range of at most so many offsets."""
    spans = []
    for key, end in sorted(ready.items()):
        start = done.get(key, 0)
        if start < end:
            topic_id, partition = key.rsplit("/", 1)
            spans.append(Span(topic_id, int(partition), start, min(end, start + at_most)))
    return spans


def joined(spans: Sequence[Span]) -> list[Span]:
    """Spans of the same partition that follow each other, as one."""
    out: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.key, s.start)):
        if out and out[-1].key == span.key and out[-1].end == span.start:
            out[-1] = Span(span.topic_id, span.partition, out[-1].start, span.end)
        else:
            out.append(span)
    return out


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Flow:
    """From a source table to the table that says how far it got, at most `at_most` offsets a step."""

    source: Table
    target: Table
    at_most: int
    step: Callable[[Span], None]
    by_event_offset: bool = True
    """Its offsets are those of topic `events`."""
    from_first: bool = False
    """What the target lacks altogether begins where the source, a table of bronze, begins: not at offset 0."""
    ready: Callable[[], bool] = _always
    """Whether it may advance; asked anew each time."""


def _nothing() -> None:
    """Nothing follows."""


def drive(context: Context, flows: Sequence[Flow], trigger_s: int, afterwards: Callable[[], None] = _nothing) -> None:
    """Take every flow's ranges: until the targets have all that the sources have, for ever, or for one interval.

    The flows do not read each other's targets and advance side by side: one plans and commits while another computes.

    `afterwards` is called whenever all flows have caught up. An interval is one of topic `events`.
    """
    if context.interval:
        for flow in flows:
            if flow.by_event_offset and flow.ready():
                for key, end in written_ends(context.root, flow.target).items():
                    if key.endswith("/0"):
                        _again(context.interval, flow, key, end)
        afterwards()
        return
    while True:
        began = time.monotonic()
        with ThreadPoolExecutor(len(flows)) as pool:
            busy = any(list(pool.map(partial(_advanced, context.root), flows)))
        if not busy:
            afterwards()
            if context.available_now:
                return
            time.sleep(max(IDLE_S, trigger_s - (time.monotonic() - began)))


def _advanced(root: str, flow: Flow) -> bool:
    """Take the flow's next ranges; whether there was one."""
    done, ready = dict(written_ends(root, flow.target)), written_ends(root, flow.source)
    begun = {}
    if flow.from_first:
        # The topic, or bronze's retention, may have forgotten before the target began.
        begun = {key: first_held(root, flow.source, key) for key in ready.keys() - done.keys()}
    spans = spans_between({**begun, **done}, ready, flow.at_most)
    if not spans or not flow.ready():
        return False
    for span in spans:
        if begun.get(span.key, 0):
            told = {"source": flow.source.name, "target": flow.target.name, "key": span.key, "offset": span.start}
            logger("intervals").warning("the source has nothing before this offset; the target begins there", **told)
        flow.step(span)
    return True


def _again(interval: Interval, flow: Flow, key: str, end: int) -> None:
    # Beyond the target's end a repair would write rows that the next run appends once more.
    if interval.end > end:
        raise RangeMissing(f"{flow.target.name} ends at offset {end}.", "Choose a --to-position up to there.")
    topic_id, partition = key.rsplit("/", 1)
    for start in range(interval.start, interval.end, flow.at_most):
        flow.step(Span(topic_id, int(partition), start, min(start + flow.at_most, interval.end)))
