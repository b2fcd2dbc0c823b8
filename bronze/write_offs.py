"""Says which records Kafka deleted before bronze had them; with --do accepts their loss, so that the stream goes on.

    python -m bronze.write_offs                         what is missing; exit code 1 where something is
    python -m bronze.write_offs --topic decisions --from-position 10 --to-position 14 --reason WHY --do

A range is written off as a whole and exactly as it is missing, on record: who, why and when are in the audit trail and
in `lake.write_offs`, which the auditor reads. Stop bronze.job first. lakehouse/RUNBOOK.md tells what follows.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pyarrow import fs

from bronze.job import TABLES
from bronze.missing import Missing, missing, named
from lakehouse import broker, delta, jobs, storage, topics, trail
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.contracts.lake import WRITE_OFFS
from lakehouse.crash import crash_point
from lakehouse.errors import FraudlakeError, RangeMissing, Transient
from lakehouse.files import filesystem
from lakehouse.jobs import Interval
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.spans import Span, holes


def refuse_needed(root: str, one: Missing) -> None:
    """RangeMissing for records of topic `events` that silver has not taken: everything behind them depends on them."""
    if one.topic != topics.EVENTS:
        return
    done = storage.written_ends(root, silver.BALANCE).get(one.span.key, 0)
    if done < one.span.end:
        raise RangeMissing(
            f"Offsets {max(done, one.span.start)} to {one.span.end} of topic {one.name} cannot be written off: silver "
            "has not taken them, and features, duplicates, erasures and what is in force behind them follow from them.",
            "Restore the broker's data; where there is none: lakehouse/RUNBOOK.md, \"Records that Kafka deleted too "
            'early".',
        )


def exactly(settings: Settings, here: Sequence[Missing], topic: str, partition: int, start: int, end: int) -> Missing:
    """Of what is missing of a partition the range that was asked for; FraudlakeError where it is another."""
    for one in here:
        if (one.span.start, one.span.end) == (start, end):
            return one
    name = topics.topic_name(settings, topic)
    low, high = broker.watermarks(settings, name, partition)
    asked = f"Offsets {start} to {end} of partition {partition} of topic {name}"
    if max(start, low) < min(end, high):
        raise FraudlakeError(
            f"{asked} are not to be written off: the topic still holds {max(start, low)} to {min(end, high)}.",
            "Land them: python -m bronze.job",
        )
    ranges = ", ".join(f"{one.span.start} to {one.span.end}" for one in here) or "nothing"
    raise FraudlakeError(f"{asked} are not what is missing: {ranges}.", "Give a range as it is missing.")


def write_off(settings: Settings, one: Missing, reason: str) -> None:
    """Accept the loss of a range, on record first; given again it goes on after a crash at any step.

    Transient where somebody else wrote to the table meanwhile.
    """
    root, span, table = conf.lake_root(settings), one.span, one.table
    told: trail.Details = {"topic": one.name, "from_offset": span.start, "to_offset": span.end, "reason": reason}
    place: dict[str, str | int] = {"topic_id": span.topic_id, "partition": span.partition}
    trail.record(settings, "range.written_off", table.name, {**place, **told})
    row = {**place, "place": table.name, "reason": reason, "actor": trail.actor(), "written_off_at": datetime.now(UTC)}
    new = holes(named(root, table, span), span.start, span.end)
    if new:
        delta.append(root, WRITE_OFFS, [{**row, "start_offset": start, "end_offset": end} for start, end in new])
    crash_point("write-off-named")
    if not one.at_end:
        return
    # The stream would ask Kafka for what is gone. Without its checkpoint it begins where the topic begins.
    checkpoints = filesystem(jobs.checkpoint(root, ""))
    if checkpoints.get_file_info(table.name).type != fs.FileType.NotFound:
        checkpoints.delete_dir(table.name)
    crash_point("write-off-checkpoint-gone")
    storage.write_off(root, table, span)
    if storage.written_ends(root, table).get(span.key, 0) < span.end:
        raise Transient(f"Somebody else wrote to {table.name}.", "Stop bronze.job, then give the command again.")


def _command(one: Missing) -> str:
    partition = f" --partition {one.span.partition}" if one.span.partition else ""
    where = f"--from-position {one.span.start} --to-position {one.span.end}"
    return f"python -m bronze.write_offs --topic {one.topic}{partition} {where} --reason WHY --do"


def _shown(settings: Settings, found: Sequence[Missing]) -> None:
    for one in found:
        print(one.text())
        try:
            refuse_needed(conf.lake_root(settings), one)
        except RangeMissing as refused:
            print(f"  {refused}")
        else:
            print(f"  accept the loss: {_command(one)}")
    print(f"{len(found)} ranges are missing" if found else "nothing is missing")


def _asked(settings: Settings, given: argparse.Namespace, interval: Interval) -> None:
    """Write off the range of a command line, or say what would be."""
    start, end = interval.start, interval.end
    root, identity = conf.lake_root(settings), topics.identify(settings, given.topic)
    span = Span(identity.topic_id, given.partition, start, end)
    found = [one for one in missing(settings, given.topic) if one.span.partition == given.partition]
    touching = any(one.span.start < end and start < one.span.end for one in found)
    if not touching and not holes(named(root, TABLES[given.topic], span), start, end):
        print(f"{TABLES[given.topic].name}: offsets {start} to {end} are written off already")
        return
    one = exactly(settings, found, given.topic, given.partition, start, end)
    refuse_needed(root, one)
    print(one.text())
    if not given.do:
        print(f"would be written off: {_command(one)}")
        return
    told = {"topic": one.name, "partition": given.partition, "reason": given.reason}
    with recorded(settings, "bronze.write_offs", "write_off", (start, end), **told):
        write_off(settings, one, given.reason)
    print("written off; start bronze.job again")


def main(argv: Sequence[str]) -> int:
    """Say what is missing, or write a range off."""
    parser = argparse.ArgumentParser(
        prog="python -m bronze.write_offs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--topic", choices=tuple(TABLES), help="only this one")
    parser.add_argument("--partition", type=int, default=0, metavar="N", help="of the range (default 0)")
    parser.add_argument("--from-position", type=int, metavar="OFFSET", help="first offset of the range")
    parser.add_argument("--to-position", type=int, metavar="OFFSET", help="offset after the last one")
    parser.add_argument("--reason", help="why the loss is accepted; kept on record")
    parser.add_argument("--do", action="store_true", help="write the range off; without it, only say what would be")
    given = parser.parse_args(argv)
    if given.from_position is not None and given.topic is None:
        parser.error("a range needs its --topic")
    if given.do and (given.from_position is None or not (given.reason or "").strip()):
        parser.error("--do needs --topic, --from-position, --to-position and --reason")
    lacking: list[Missing] = []

    def work() -> None:
        settings, interval = conf.load(given.env), jobs.interval_of(given)
        configure(settings, "write_offs")
        if interval is not None:
            _asked(settings, given, interval)
            return
        for topic in TABLES if given.topic is None else [given.topic]:
            lacking.extend(missing(settings, topic))
        _shown(settings, lacking)

    return jobs.guarded(work) or int(bool(lacking))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
