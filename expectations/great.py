"""Great Expectations, told to be quiet: it says nothing to its makers, draws no progress bars and keeps no frames."""

import os
from collections.abc import Mapping
from typing import Any


def context() -> Any:
    """A context in memory; the import alone takes seconds, so it is made here and not before."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    made = gx.get_context(mode="ephemeral")
    made.variables.progress_bars = {"globally": False}
    return made


def suite_of(made: Any, content: Mapping[str, Any]) -> Any:
    """A suite in the context, from Great Expectations' own JSON form."""
    from great_expectations.core.expectation_suite import ExpectationSuite

    return made.suites.add(ExpectationSuite(**content))


def batches(made: Any, name: str) -> Any:
    """Batches of Spark frames; they are not persisted."""
    source = made.data_sources.add_or_update_spark(name, persist=False)
    return source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")


def failure(one: Any) -> str | None:
    """Why an expectation could not be evaluated; None when it was."""
    info = one.exception_info or {}
    found = [info, *(part for part in info.values() if isinstance(part, Mapping))]
    told = [part for part in found if part.get("raised_exception")]
    return str(told[0].get("exception_message"))[:300] if told else None
