"""What the lake keeps of itself: the runs of its jobs."""

from lakehouse.tables import Column, Table

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

TABLES = (RUNS,)
