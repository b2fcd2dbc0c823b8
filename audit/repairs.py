"""The command that repairs a finding: the jobs' own flags, over the positions that it names."""

from audit.arrival import PURGED
from audit.findings import Finding

_BY_POSITION = {
    "bronze.events": "bronze.job",
    "silver": "silver.job",
    "features.vectors": "features.job",
    "gold.features": "gold.job",
    "gold.scores": "gold.job",
    "gold.decisions": "gold.job",
}

_LANDED = ("bronze.events", "bronze.decisions", "bronze.shadow")
_ENGINES = ("silver.decisions", "silver.shadow")
"""Of topics of the engine: no interval of topic `events` does them again."""


def _job(table: str) -> str | None:
    layer = table.split(".")[0]
    if table in _ENGINES:
        return None
    return _BY_POSITION.get(table) or _BY_POSITION.get(layer)


def _restored(table: str, root: str, then: str) -> str:
    path = f"{root}/{table.replace('.', '/')}"
    restore = f"python -c \"from deltalake import DeltaTable; DeltaTable('{path}').restore(VERSION)\""
    return f"{restore}   # VERSION: the last good one, see .history(); then: {then}"


def command(finding: Finding, root: str, kept_from: int = 0) -> str:
    """What to run; layers are repaired from left to right, and the audit run again after each.

    `kept_from` is the first offset that the topic of a table of bronze still has.
    """
    table = finding.table
    if table in _LANDED and finding.what == "lost" and finding.end <= kept_from:
        return f"python -m bronze.write_offs --topic {table.split('.')[1]}   # Kafka has no record of them any more"
    if finding.fact == PURGED:
        return "python -m silver.erasure purge --erasure-id ID   # ID: lake.purges has it by position"
    job = _job(table)
    if job is not None:
        # A row that lies outside what its partition's log holds is in no interval that a job would do again.
        beyond = finding.what == "unknown" or finding.source.partition != 0
        if not beyond:
            return f"python -m {job} --from-position {finding.first} --to-position {finding.end}"
        return _restored(table, root, f"python -m {job} --available-now")
    if table in _ENGINES:
        return _restored(table, root, "python -m silver.job --available-now")
    if table in _LANDED:
        checkpoint = f"{root}/_checkpoints/{table}"
        return _restored(table, root, f"rm -r {checkpoint} && python -m bronze.job --available-now")
    return "restore the broker's data"
