"""Every benchmark, one after the other; their figures as the table of README.md."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.settings import home

NAMES = (
    *("simulator", "bronze", "bookkeeping", "masking", "silver", "features", "backfill", "growth", "training"),
    *("rules", "engine", "shadow", "rollback", "reasons", "backtest", "experiment", "exploration", "decisions"),
    *("stores", "audit"),
)
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"


def flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """(name, value) of every figure, nested names joined by blanks."""
    found: list[tuple[str, float]] = []
    for name, value in figures.items():
        here = f"{prefix} {name}".strip()
        found += flat(value, here) if isinstance(value, Mapping) else [(here, float(value))]
    return found


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a benchmark."""
    rows = ["| command | figures (medians) | commit |", "| --- | --- | --- |"]
    for line in lines:
        figures = ", ".join(
            f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in flat(line["figures"])
        )
        rows.append(f"| `python -m benchmarks.{line['benchmark']}` | {figures} | {line['commit']} |")
    where = f"Measured on: {lines[0]['machine']}."
    return "\n".join([*rows, "", where])


def main() -> int:
    """Run all; write the table; 1 when one of them failed."""
    lines = []
    for name in NAMES:
        print(f"--- {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], cwd=home(), stdout=subprocess.PIPE, text=True
        )
        print(done.stdout, flush=True)
        if done.returncode:
            return 1
        lines.append(json.loads(done.stdout.splitlines()[-1]))
    readme = home() / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table(lines)}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
