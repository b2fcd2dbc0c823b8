"""What the lake keeps of itself: runs of its jobs, records that were purged on request, losses that were accepted."""

from lakehouse.tables import POSITION, Column, Table

RUNS = Table(
    name="lake.runs",
    meaning="Every run of a job that came to an end, good or bad; a killed one has only begun, in the audit trail.",
    grain="one run of a job",
    key=("run_id",),
    columns=(
        Column("run_id", "string", "the run, as in the audit trail"),
        Column("job", "string", "module, such as silver.job"),
        Column("started_at", "timestamp", "when it began"),
        Column("ended_at", "timestamp", "when it ended"),
        Column("outcome", "string", "done, failed or stopped"),
        Column("exit_code", "int", "what the process said, or would have said, to who started it"),
        Column("error", "string", "type of the error that ended it", nullable=True),
        Column("from_position", "bigint", "of an interval that was done again: first source offset", nullable=True),
        Column("to_position", "bigint", "of an interval that was done again: offset after the last one", nullable=True),
        Column("rows_in", "bigint", "source offsets taken; null where a job does not go by them", nullable=True),
        Column("rows_out", "bigint", "rows in its commits, all tables"),
        Column("versions_read", "array<string>", "Delta versions as table@first-last"),
        Column("versions_written", "array<string>", "Delta versions as table@first-last"),
        Column("code_version", "string", "version of the code"),
        Column("host", "string", "the machine"),
    ),
    event_time="started_at",
    position=None,
)

PURGES = Table(
    name="lake.purges",
    meaning="Records whose sealed bytes were emptied on request; their rows stay at their places.",
    grain="one record in one place that held it",
    key=("topic_id", "partition", "offset", "place"),
    columns=(
        *POSITION,
        Column("place", "string", "a table that held the record sealed, or a topic"),
        Column("erasure_id", "string", "the erasure of the customer whose record it is"),
        Column("asked_at", "timestamp", "when the purge began that names the record"),
    ),
    event_time="asked_at",
    position=None,
)

WRITE_OFFS = Table(
    name="lake.write_offs",
    meaning="Ranges of topics that bronze lacks and Kafka holds no more, and whose loss somebody has accepted.",
    grain="one range of one partition",
    key=("topic_id", "partition", "place", "start_offset"),
    columns=(
        *POSITION[:2],
        Column("start_offset", "bigint", "first offset that is written off"),
        Column("end_offset", "bigint", "offset after the last one"),
        Column("place", "string", "the table of bronze that lacks them"),
        Column("reason", "string", "why, as given"),
        Column("actor", "string", "who accepted it: account and machine"),
        Column("written_off_at", "timestamp", "when"),
    ),
    event_time="written_off_at",
    position=None,
)

TABLES = (RUNS, PURGES, WRITE_OFFS)
