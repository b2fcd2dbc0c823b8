"""Settings of the label ledger; what each means stands beside its default in conf/base.yml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lakehouse.section import Count, Section

Source = Literal["analyst", "chargeback", "customer", "early_warning", "rule"]


def _once(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    if len(set(sources)) != len(sources):
        raise ValueError("names a source twice")
    return sources


class Labels(Section):
    """Whose labels count, and how long they take."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1), AfterValidator(_once)]
    least_confidence: Annotated[float, Field(ge=0, le=1)]
    horizon_d: Count
