"""What every Spark job shares: its flags, its edges and the way it ends.

A job is a module `<room>.job` with `run(context)`. `python -m <room>.job` runs one; `python -m lakehouse.jobs a.job
b.job --available-now` runs several, one after the other, in one process and one session.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.errors import FraudlakeError
from lakehouse.log import configure, logger
from lakehouse.runs import recorded
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyspark.sql import SparkSession

ALL_DONE = "all jobs done"


@dataclass(frozen=True)
class Interval:
    """Source offsets [start, end) of partition 0 that are to be done again."""

    start: int
    end: int


@dataclass(frozen=True)
class Context:
    """What a job needs from outside: settings, session, and which records it is to do."""

    settings: Settings
    spark: "SparkSession"
    available_now: bool
    interval: Interval | None

    @property
    def root(self) -> str:
        """The lake root, absolute."""
        return conf.lake_root(self.settings)

    def checkpoint(self, name: str) -> str:
        """Where a stream keeps its bookkeeping."""
        return checkpoint(self.root, name)


def checkpoint(root: str, name: str) -> str:
    """Where a stream keeps its bookkeeping below a lake root; losing it loses no row."""
    return f"{root}/_checkpoints/{name}"


def parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """The flags that are the same everywhere."""
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    made.add_argument(
        "--available-now", action="store_true", help="do what is there and stop; without it, keep running"
    )
    made.add_argument("--from-position", type=int, metavar="OFFSET", help="repair: first source offset to do again")
    made.add_argument("--to-position", type=int, metavar="OFFSET", help="repair: source offset after the last one")
    return made


def context(name: str, arguments: argparse.Namespace) -> Context:
    """Settings and session of a job, once the schema registry agrees with us, where one is configured."""
    from lakehouse.session import build_session
    from lakehouse.storage import make_root

    settings = conf.load(arguments.env)
    agreed(settings)
    interval = interval_of(arguments)
    made = Context(settings, build_session(settings, name), arguments.available_now, interval)
    make_root(made.root)
    return made


def interval_of(arguments: argparse.Namespace) -> Interval | None:
    """The interval that is to be done again, if any; FraudlakeError for half of one."""
    if (arguments.from_position is None) != (arguments.to_position is None):
        raise FraudlakeError("--from-position and --to-position belong together.")
    if arguments.from_position is None:
        return None
    if arguments.to_position <= arguments.from_position:
        raise FraudlakeError("--to-position must be above --from-position.")
    return Interval(arguments.from_position, arguments.to_position)


def _recorded(name: str, run: Callable[[Context], None], arguments: argparse.Namespace) -> None:
    """Run a job on record: a repair as a rerun of its interval."""
    interval = interval_of(arguments)
    again = None if interval is None else (interval.start, interval.end)
    kind = "job" if again is None else "rerun"
    with recorded(conf.load(arguments.env), f"{name}.job", kind, again, available_now=arguments.available_now):
        work = context(name, arguments)
        try:
            run(work)
        except Exception as error:
            from lakehouse.high_water import recognised

            if (damaged := recognised(work.root, error)) is not None:
                raise damaged from error
            raise


def main(name: str, run: Callable[[Context], None], description: str | None, argv: Sequence[str]) -> int:
    """Run one job from the command line; the exit code."""
    arguments = parser(f"python -m {name}.job", description).parse_args(argv)

    def work() -> None:
        configure(conf.load(arguments.env), name)
        _recorded(name, run, arguments)

    return guarded(work)


def guarded(work: Callable[[], object]) -> int:
    """Run something; an error we know ends as one sentence and exit code 1."""
    try:
        work()
    except FraudlakeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_all(modules: Sequence[str], arguments: argparse.Namespace) -> None:
    """Run several jobs one after the other in this process."""
    configure(conf.load(arguments.env), "lake")
    log = logger("jobs")
    for module in modules:
        name = module.removesuffix(".job")
        job = importlib.import_module(module)
        log.info("job begins", job=name)
        _recorded(name, job.run, arguments)


def _as_they_come(batches: "Iterable[RecordBatch]") -> "Iterable[RecordBatch]":
    yield from batches


def run_on_request(modules: Sequence[str], arguments: argparse.Namespace) -> None:
    """Run the jobs once for every line on standard input; each time ALL_DONE follows on standard output."""
    # Python workers take seconds to load our kernels: the first one starts before there is something to do.
    context("lake", arguments).spark.range(1).mapInArrow(_as_they_come, "id bigint").count()
    for _ in sys.stdin:
        run_all(modules, arguments)
        print(ALL_DONE, flush=True)  # noqa: T201


def _main(argv: Sequence[str]) -> int:
    made = parser("python -m lakehouse.jobs", "Run several jobs one after the other, in one process.")
    made.add_argument("jobs", nargs="+", metavar="JOB", help="for example bronze.job silver.job")
    made.add_argument(
        "--on-request",
        action="store_true",
        help="run them for every line on standard input, in one session that stays warm; ends with the input",
    )
    arguments = made.parse_args(argv)
    for module in arguments.jobs:
        path = conf.home() / (module.replace(".", "/") + ".py")
        if not module.endswith(".job") or not Path(path).exists():
            made.error(f"there is no job {module}")
    if not arguments.available_now:
        made.error("several jobs in one process need --available-now")
    run = run_on_request if arguments.on_request else run_all
    return guarded(lambda: run(arguments.jobs, arguments))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
