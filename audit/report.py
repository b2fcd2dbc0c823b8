"""The result for people, and as JSON."""

import json
from typing import Any

from audit.auditing import Audit
from audit.findings import Finding, Hop, Line
from audit.witnesses import WHAT

_HEAD = ("table", "rows", "amount, minor units", *WHAT, "behind", "written off")


def as_json(audit: Audit) -> str:
    """Everything as one JSON object."""
    return json.dumps(as_dict(audit), indent=1)


def as_dict(audit: Audit) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "clean": not audit.findings,
        "seconds": audit.seconds,
        "not_compared": audit.notes,
        "hops": [_hop(hop) for hop in audit.hops],
        "findings": [_finding(finding) for finding in audit.findings],
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {"hop": hop.name, "notes": hop.notes, "tables": [_line(hop, line) for line in hop.lines.values()]}


def _line(hop: Hop, line: Line) -> dict[str, Any]:
    return {
        "table": line.table,
        "rows": line.rows,
        "amount_minor": line.amount,
        "content_digest": f"{line.content:016x}",
        "position_digest": f"{line.bound:016x}",
        **{what: hop.count(line.table, what) for what in WHAT},
        "behind": line.behind,
        "written_off": line.written_off,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    tables = [finding.table, *([finding.against] if finding.undecided else [])]
    return {
        "hop": finding.hop,
        "what": finding.what,
        "tables": tables,
        "fact": finding.fact,
        "against": finding.against,
        "topic_id": finding.source.topic_id,
        "partition": finding.source.partition,
        "from_offset": finding.first,
        "to_offset": finding.end,
        "rows": finding.rows,
        "examples": finding.examples,
        "repair": finding.repair,
    }


def as_text(audit: Audit) -> str:
    """A table a hop, then what was found and how to repair it."""
    lines: list[str] = []
    for hop in audit.hops:
        rows = [_HEAD, *(_cells(hop, line) for line in hop.lines.values())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        lines += [hop.name, *("  " + _aligned(row, widths) for row in rows), *(f"  ({note})" for note in hop.notes), ""]
    for finding in audit.findings:
        lines += [finding.text, f"  repair: {finding.repair}"]
    lines += [f"not compared: {note}" for note in audit.notes]
    verdict = "clean" if not audit.findings else f"{len(audit.findings)} findings"
    return "\n".join([*lines, f"{verdict}, {audit.seconds:.1f} s"])


def _cells(hop: Hop, line: Line) -> tuple[str, ...]:
    amount = "" if line.amount is None else f"{line.amount:,}"
    return (
        line.table,
        f"{line.rows:,}",
        amount,
        *(f"{hop.count(line.table, what):,}" for what in WHAT),
        f"{line.behind:,}",
        f"{line.written_off:,}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = row
    return "  ".join([first.ljust(widths[0]), *(t.rjust(w) for t, w in zip(others, widths[1:], strict=True))])
