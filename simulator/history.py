"""The past of a world into the log: days of payments, authorisations, labels and, if asked for, faults."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lakehouse.settings import Settings
from simulator.options import Options
from simulator.records import Records
from simulator.sending import Report, Sender, partitions_of
from simulator.truth import Tally, described_options, truth_of, write_manifest, write_truth
from simulator.world import World, between, world

EVENTS_PER_PAYMENT = 2.0
"""An authorisation for each, and a label now and then: for the progress bar only."""


@dataclass(frozen=True)
class Files:
    """Where the truth and the manifest go, if anywhere."""

    truth: Path | None
    manifest: Path | None


def send_records(sender: Sender, made: World, records: Records) -> None:
    """Hand a piece of a world's log over."""
    partition = None
    if sender.partitions > 1:
        partition = partitions_of(made.ids.texts("customer", records.customer), sender.partitions)
    sender.send(records.payload.to_list(), partition)


def send_history(
    settings: Settings, options: Options, files: Files, progress: Callable[[float], Report], clock: Callable[[], float]
) -> str:
    """Send a world's history; the summary line."""
    began = clock()
    sender = Sender(settings, progress(options.days * options.payments_per_day * EVENTS_PER_PAYMENT))
    made = world(options)
    tally = Tally()
    truth: list[pa.Table] = []
    for records in between(made, options.start_ms, options.live_from_ms):
        send_records(sender, made, records)
        tally.add(records)
        if files.truth:
            truth.append(truth_of(records, made.ids))
    sender.close()
    if files.truth:
        write_truth(files.truth, truth)
    if files.manifest:
        write_manifest(files.manifest, "history", {"options": described_options(options), **tally.described()})
    return tally.summary(clock() - began)
