"""Settings of the comparison between champion and challenger, of promotion and of the watch after it."""

from typing import Annotated

from pydantic import Field

from lakehouse.section import Count, Seconds, Section

Share = Annotated[float, Field(ge=0, le=1)]
Minor = Annotated[int, Field(ge=0)]


class Costs(Section):
    """What a decision costs, minor units of the base currency and shares of the amount."""

    challenge_passes: Share
    review_passes: Share
    review_minor: Minor
    challenge_genuine_minor: Minor
    review_genuine_minor: Minor
    decline_genuine_minor: Minor
    decline_genuine_share: Share


class Experiment(Section):
    """How a challenger is compared with the champion."""

    costs: Costs
    review_minutes: Annotated[float, Field(gt=0)]
    cap_minor: Count
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    power: Annotated[float, Field(gt=0.5, lt=1)]
    least_improvement: Annotated[float, Field(gt=0, lt=1)]
    longest_d: Count
    least_differences: Count
    bootstrap_runs: Count
    segment_margin: Share
    segment_least_payments: Count
    calibration_margin: Share
    scoring_us: Annotated[float, Field(gt=0)]
    split_most_bp: Annotated[int, Field(ge=1, le=5_000)]


class Guard(Section):
    """When a model that was put into force goes back to the one before it."""

    watch_s: Seconds
    look_s: Seconds
    window_s: Seconds
    least_payments: Count
    error_rate: Share
    latency_ms: Annotated[float, Field(gt=0)]
    score_shift: Annotated[float, Field(gt=0)]
    approval_shift: Share
