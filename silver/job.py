"""bronze.events -> a table per kind, quarantine, duplicates, balance; bronze.decisions, bronze.shadow -> silver."""

import sys

from expectations.suites import predicates
from lakehouse import jobs
from lakehouse.contracts import bronze, silver
from lakehouse.intervals import Flow, drive, joined
from lakehouse.jobs import Context
from lakehouse.key_age import warn_of_age
from lakehouse.storage import Span, ensure
from silver.balance import reconciled, refuse_losses
from silver.batch import EventBatch
from silver.emitted import EMITTED, EmittedBatch
from silver.erasing import upheld


def run(context: Context) -> None:
    """Admit what bronze has and silver has not, and take over the decisions that count."""
    warn_of_age(context.settings)
    for kind in silver.BY_KIND.values():
        predicates(kind.name)
    for table in (bronze.EVENTS, *silver.TABLES):
        ensure(context.root, table)
    upheld(context.settings, context.root)
    if context.interval is None:
        refuse_losses(context.root)
    settings = context.settings.silver
    done: list[Span] = []
    events = EventBatch(context)

    def take(span: Span) -> None:
        events.take(span)
        done.append(span)

    def balance() -> None:
        for span in joined(done):
            print(reconciled(context.root, span).text())
        done.clear()

    flows = (
        Flow(bronze.EVENTS, silver.BALANCE, settings.batch_records, take, from_first=True),
        *(Flow(e.source, e.target, settings.batch_records, EmittedBatch(context, e).take, False) for e in EMITTED),
    )
    drive(context, flows, settings.trigger_s, balance)


if __name__ == "__main__":
    sys.exit(jobs.main("silver", run, __doc__, sys.argv[1:]))
