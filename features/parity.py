"""Whether the engine's vectors are what the history driver makes of silver, to the bit.

The engine's side is what it logged with its decisions, or with --replay what its driver makes of the log once more; the
other side is recomputed from silver's rows. Every payment is compared in every feature.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.catalogue import NAMES
from features.history import History
from lakehouse import delta, jobs
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.errors import FraudlakeError
from lakehouse.jobs import Context
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.storage import Span, written_ends
from lakehouse.write_offs import undecided

SHOWN = 20

Bits = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Vectors:
    """Vectors by offset, ascending; `bits` are float32 as they lie in memory, (payments, features)."""

    offset: npt.NDArray[np.int64]
    bits: Bits

    @staticmethod
    def of(offset: pa.ChunkedArray, vector: pa.ChunkedArray) -> "Vectors":
        """Of columns: vectors as bytes, or as lists of float32."""
        offsets, order = offset.to_numpy(), np.argsort(offset.to_numpy(), kind="stable")
        column = vector.combine_chunks()
        if pa.types.is_list(column.type):
            raw = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        else:
            raw = np.frombuffer(b"".join(column.to_pylist()), np.float32)
        return Vectors(offsets[order], raw.reshape(len(offsets), len(NAMES)).view(np.uint32)[order])


@dataclass(frozen=True)
class Report:
    """What a comparison found; `differing` has per feature how many payments differ, and the first one's offset."""

    payments: int
    only_engine: list[int]
    only_lake: list[int]
    differing: dict[str, tuple[int, int]]

    @property
    def mismatches(self) -> int:
        """Values that differ, and every value of a payment that one side lacks."""
        alone = len(self.only_engine) + len(self.only_lake)
        return sum(n for n, _ in self.differing.values()) + alone * len(NAMES)

    def described(self) -> list[str]:
        """Lines for people."""
        lines = [f"{self.payments:,} payments x {len(NAMES)} features: {self.mismatches:,} mismatches"]
        for who, offsets in (("the engine", self.only_engine), ("silver", self.only_lake)):
            if offsets:
                lines.append(f"  only {who} has {len(offsets):,} payments, the first at offset {offsets[0]}")
        worst = sorted(self.differing.items(), key=lambda item: -item[1][0])
        for name, (count, offset) in worst[:SHOWN]:
            lines.append(f"  {name}: {count:,} payments differ, the first at offset {offset}")
        if len(worst) > SHOWN:
            lines.append(f"  and {len(worst) - SHOWN} other features")
        return lines


def compared(engine: Vectors, lake: Vectors) -> Report:
    """The engine's vectors beside the lake's."""
    both, mine, theirs = np.intersect1d(engine.offset, lake.offset, assume_unique=True, return_indices=True)
    differs = engine.bits[mine] != lake.bits[theirs]
    differing = {}
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        rows = np.flatnonzero(differs[:, column])
        differing[NAMES[column]] = (len(rows), int(both[rows[0]]))
    return Report(
        len(both),
        np.setdiff1d(engine.offset, lake.offset).tolist(),
        np.setdiff1d(lake.offset, engine.offset).tolist(),
        differing,
    )


def logged(root: str, span: Span) -> Vectors:
    """The vectors that the engine logged with its decisions on a span; accepted payments have one."""
    here = delta.within(span) & pc.field("vector").is_valid()
    rows = delta.rows(root, silver.DECISIONS, ["offset", "vector"], here)
    return Vectors.of(rows.column("offset"), rows.column("vector"))


def replayed(settings: Settings, span: Span, base: Path | None) -> Vectors:
    """The vectors that the engine's driver makes of a span of the log, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vectors.arrow"
        command = [sys.executable, "-m", "decisions.vectors", "--env", settings.env, "--out", str(out)]
        command += ["--from-position", str(span.start), "--to-position", str(span.end)]
        command += [] if base is None else ["--snapshot", str(base)]
        if subprocess.run(command, cwd=conf.home(), check=False).returncode:
            raise FraudlakeError("The engine's driver did not make the vectors; its message is above.")
        with pa.ipc.open_stream(str(out)) as file:
            rows = file.read_all()
    return Vectors.of(rows.column("offset"), rows.column("vector"))


def told(engine: Vectors, lake: Vectors, lost: Sequence[Span]) -> Vectors:
    """The lake's vectors without those that the engine lacks because its decisions there were written off."""
    kept = np.ones(len(lake.offset), np.bool_)
    for span in lost:
        kept &= (lake.offset < span.start) | (lake.offset >= span.end)
    kept |= np.isin(lake.offset, engine.offset)
    return Vectors(lake.offset[kept], lake.bits[kept])


def recomputed(context: Context, span: Span, base: Path | None) -> Vectors:
    """The vectors that the history driver makes of silver's rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows = History(context).recomputed(span, base, Path(folder) / "state")
    return Vectors.of(rows.column("offset"), rows.column("vector"))


def _span(context: Context, given: argparse.Namespace) -> Span:
    ends = written_ends(context.root, silver.BALANCE)
    if not ends:
        raise FraudlakeError("There is nothing in silver yet.", "Run bronze.job and silver.job, or `make demo`.")
    topic_id, partition = next(iter(ends)).rsplit("/", 1)
    end = max(ends.values()) if given.to_position is None else given.to_position
    whole = Span(topic_id, int(partition), given.from_position or 0, end)
    if given.replay or given.from_position is not None:
        return whole
    offsets = logged(context.root, whole).offset
    if not len(offsets):
        raise FraudlakeError(
            f"The engine has logged no vectors up to offset {end}.",
            "--replay makes them once more from the log; or run python -m silver.job after the engine.",
        )
    return Span(topic_id, int(partition), int(offsets[0]), end if given.to_position else int(offsets[-1]) + 1)


def _report(context: Context, given: argparse.Namespace) -> Report:
    span = _span(context, given)
    print(f"offsets {span.start:,} to {span.end:,} of partition {span.partition}", flush=True)
    engine = replayed(context.settings, span, given.snapshot) if given.replay else logged(context.root, span)
    print(f"the engine has {len(engine.offset):,} vectors; making silver's", flush=True)
    lake = recomputed(context, span, given.snapshot)
    lost = [] if given.replay else [one for one in undecided(context.root) if one.key == span.key]
    found = told(engine, lake, lost)
    if left_out := len(lake.offset) - len(found.offset):
        print(f"{left_out:,} payments are left out: their decisions were written off (lake.write_offs)", flush=True)
    return compared(engine, found)


def main(argv: Sequence[str]) -> int:
    """Compare; 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m features.parity", description=__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--from-position", type=int, metavar="OFFSET", help="default: the first payment with a vector")
    parser.add_argument("--to-position", type=int, metavar="OFFSET", help="offset after the last one (default: all)")
    parser.add_argument("--replay", action="store_true", help="take the log through the engine's driver first")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="begin from it (default: from an empty state)")
    given = parser.parse_args(argv)
    mismatches = 0

    def work() -> None:
        nonlocal mismatches
        settings = conf.load(given.env)
        configure(settings, "parity")
        with recorded(settings, "features.parity", "parity", replay=given.replay) as run:
            report = _report(jobs.context("parity", argparse.Namespace(**{**vars(given), **_WHOLE})), given)
            mismatches = report.mismatches
            run.exit_code = int(mismatches > 0)
        print("\n".join(report.described()))
        print(json.dumps({"payments": report.payments, "features": len(NAMES), "mismatches": mismatches}))

    return jobs.guarded(work) or int(mismatches > 0)


_WHOLE = {"from_position": None, "to_position": None, "available_now": True}
"""The flags of a job that does all there is."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
