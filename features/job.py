"""silver -> features.vectors for every accepted payment, and a snapshot of the state that the engine starts from."""

import sys

from features.history import History
from lakehouse import jobs, storage
from lakehouse.contracts import gold, silver
from lakehouse.intervals import Flow, drive
from lakehouse.jobs import Context


def run(context: Context) -> None:
    """Take what silver has and the vectors lack through the kernel, in order."""
    storage.ensure(context.root, gold.VECTORS)
    settings = context.settings
    history = History(context)
    flow = Flow(silver.BALANCE, gold.VECTORS, settings.features.batch_records, history.take)
    drive(context, [flow], settings.silver.trigger_s, history.keep)


if __name__ == "__main__":
    sys.exit(jobs.main("features", run, __doc__, sys.argv[1:]))
