"""The history driver without Spark: however a history is sharded and cut, vectors and state are the same bits."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import worlds

from features import snapshot
from features.flow import Flow
from features.inputs import Placed
from features.preparing import BLOCK, packed, selected, targets
from features.records import AUTHORISED, PAID, concatenated
from features.spark import Run, assembling, merged, running
from features.state import Spec

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)


def together(events, labels):
    """Events and labels in the order of the log."""
    offset = np.concatenate([events.offset, labels.offset])
    order = np.argsort(offset)
    records = concatenated([events.records, labels.records]).take(order)
    return Placed(records, offset[order], np.concatenate([events.clock_ms, labels.clock_ms])[order])


def sharded(placed, run):
    """Vectors as the driver computes them, every target for itself; the states lie in the run's folder."""
    run.folder.mkdir()
    names = pa.array([f"t{offset}" for offset in placed.offset.tolist()])
    own, half = Flow(SPEC, (), own=True), np.arange(len(placed.offset)) % 2 == 0
    # Two batches that overlap: what comes first is not before.
    rows = []
    for mask in (half, ~half):
        at = np.flatnonzero(mask)
        rows += list(packed(selected(placed, at), names.take(pa.array(at)), own, run.shards))
    rows = pa.Table.from_batches(rows)
    parts = []
    for target in range(len(targets(run.shards)) + run.shards):
        mine = rows.filter(pc.equal(rows.column("target"), target))
        parts += list(running(run)(iter(mine.to_batches(max_chunksize=3))))
    sorted_ = pa.Table.from_batches(parts).sort_by([("block", "ascending")])
    found = list(assembling("T", 0)(iter(sorted_.to_batches(max_chunksize=5))))
    return np.concatenate([batch.column("vector").flatten().to_numpy() for batch in found])


def spread(events, labels):
    """The same records over many blocks, of which the last has no payment."""
    events.records.what[-150:] = AUTHORISED
    events, labels = (placed._replace(offset=placed.offset * 20) for placed in (events, labels))
    paid = events.offset[events.records.what == PAID] // BLOCK
    assert len(np.unique(paid)) > 5
    assert events.offset[-1] // BLOCK > paid[-1]
    return events, labels


@pytest.mark.parametrize(("first", "then"), [(1, 3), (3, 8), (8, 1)])
def test_any_number_of_shards_gives_the_engines_bits_before_and_after_a_snapshot(first, then, seed, tmp_path):
    events, labels = spread(*worlds.world([seed, first], n=1500, people=12))
    cut = int(events.offset[len(events.offset) // 2])
    parts = zip(worlds.pieces(events, [cut]), worlds.pieces(labels, [cut]), strict=True)
    flow, base = Flow(SPEC), None
    for step, ((some_events, some_labels), shards) in enumerate(zip(parts, (first, then), strict=True)):
        expected = flow.take(some_events, some_labels)
        last, clock = int(some_events.offset[-1]), int(some_events.clock_ms[-1])
        flow.settle(last, clock)
        run = Run(SPEC, base, tmp_path / f"run{step}", shards, last, clock)
        assert sharded(together(some_events, some_labels), run).tobytes() == expected.tobytes(), f"seed {seed}"
        base = tmp_path / f"{step}{snapshot.SUFFIX}"
        waiting = snapshot.prefixed(flow.waiting.saved(), "waiting")
        snapshot.write(base, {}, {**merged(run), **waiting})
