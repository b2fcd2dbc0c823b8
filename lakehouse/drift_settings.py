"""Settings of the drift watch; what each means stands beside its default in conf/base.yml."""

from typing import Annotated

from pydantic import Field

from lakehouse.section import Count, Section


class Drift(Section):
    """What is compared with what, and when that is an alarm."""

    window_d: Count
    reference_windows: Annotated[int, Field(ge=8)]
    false_alarm: Annotated[float, Field(gt=0, le=0.01)]
    least_rows: Count
