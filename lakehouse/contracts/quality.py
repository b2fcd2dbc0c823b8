"""How good the tables are: scores with their trend, releases of what was held back, nightly validations."""

from lakehouse.tables import POSITION, Column, Table

_WHAT = (
    Column("table_name", "string", "the table that is scored"),
    Column("dimension", "string", "completeness, validity, uniqueness, timeliness or consistency"),
)

SCORES = Table(
    name="quality.scores",
    meaning="What share of the records of each batch, and of the window that ends with it, is good, by dimension.",
    grain="one batch of silver, table and dimension",
    key=("topic_id", "partition", "offset", "table_name", "dimension"),
    columns=(
        *POSITION[:2],
        Column("offset", "bigint", "last offset of the batch"),
        Column("start_offset", "bigint", "first offset of the batch"),
        *_WHAT,
        Column("rows", "bigint", "records of the batch that the dimension looks at"),
        Column("good", "bigint", "those of them that are good"),
        Column("clock_start", "timestamp", "engine clock of the batch's first accepted record", nullable=True),
        Column("clock_end", "timestamp", "engine clock of the batch's last accepted record", nullable=True),
        Column("window_start_offset", "bigint", "first offset of the window"),
        Column("window_rows", "bigint", "records in the window"),
        Column("window_good", "bigint", "those of them that are good"),
        Column("score", "double", "window_good / window_rows"),
        Column("state", "string", "good, alert, held, or too_few while the window is not full"),
    ),
)
RELEASES = Table(
    name="quality.releases",
    meaning="Intervals that somebody released although their score holds them back; rows are only added.",
    grain="one release",
    key=("release_id",),
    columns=(
        Column("release_id", "string", "random"),
        *POSITION[:2],
        Column("start_offset", "bigint", "first offset that is released"),
        Column("end_offset", "bigint", "offset after the last one"),
        *_WHAT,
        Column("released_at", "timestamp", "when"),
        Column("released_by", "string", "who"),
        Column("reason", "string", "why"),
    ),
    event_time="released_at",
    position=None,
)
VALIDATIONS = Table(
    name="quality.validations",
    meaning="What Great Expectations found at rest, and whether the compiled predicates found as much.",
    grain="one expectation of one table in one run",
    key=("run", "table_name", "expectation"),
    columns=(
        Column("run", "string", "the run: when it began, and the folder of its Data Docs"),
        Column("table_name", "string", "the validated table"),
        Column("expectation", "string", "name of the rule or of what the contract says, and the expectation's type"),
        Column("column", "string", "the column it looks at", nullable=True),
        Column("delta_version", "bigint", "version of the table"),
        Column("success", "boolean", "it holds for every row"),
        Column("rows", "bigint", "rows it looked at", nullable=True),
        Column("unexpected", "bigint", "rows it does not hold for", nullable=True),
        Column("by_predicate", "bigint", "rows that the compiled predicate finds; null where none is", nullable=True),
        Column("error", "string", "why it could not be evaluated", nullable=True),
        Column("validated_at", "timestamp", "when"),
    ),
    event_time="validated_at",
    position=None,
)
DRIFT = Table(
    name="quality.drift",
    meaning="How each window differs from the reference, by feature, score, rates, calibration and importance.",
    grain="one measure of one subject in one window, for one champion",
    key=("window_end", "subject", "measure", "model_digest"),
    columns=(
        Column("window_start", "timestamp", "the window is [window_start, window_end) of event time"),
        Column("window_end", "timestamp", "end of the window"),
        Column("subject", "string", "a feature's name, score, decisions, labels or model"),
        Column(
            "measure",
            "string",
            "psi, ks, missing_rate, unseen_rate, approval_rate, alert_rate, calibration, importance",
        ),
        Column("value", "double", "the measure"),
        Column("low", "double", "what it stays above without a change; null where it has no lower side", nullable=True),
        Column("high", "double", "what it stays below without a change"),
        Column("alarm", "boolean", "it does not"),
        Column("rows", "bigint", "payments of the window that it is of"),
        Column("reference_start", "timestamp", "the reference is [reference_start, reference_end) of event time"),
        Column("reference_end", "timestamp", "end of the reference"),
        Column("model_digest", "string", "SHA-256 (hex) of the champion's manifest"),
    ),
    event_time="window_end",
    position=None,
)

TABLES = (SCORES, RELEASES, VALIDATIONS, DRIFT)
