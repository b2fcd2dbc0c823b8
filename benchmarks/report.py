"""What every benchmark shares: its options, its machine, the form of its last line."""

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.settings import home


def parser(name: str, description: str | None, size: int, unit: str) -> argparse.ArgumentParser:
    """The options that are the same everywhere."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--size", type=int, default=size, help=f"{unit} (default {size})")
    made.add_argument("--seed", type=int, default=1, help="of the synthetic world (default 1)")
    made.add_argument("--runs", type=int, default=3, help="counted runs, of which the median is given (default 3)")
    return made


def machine() -> str:
    """Processor, cores and memory of this machine."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"


def commit() -> str:
    """The commit that was measured, or `unknown` outside a checkout."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=home(), capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def finish(name: str, runs: int, figures: Mapping[str, Any], against: Mapping[str, Any] | None = None) -> None:
    """Print the last line."""
    line = {
        "benchmark": name,
        "machine": machine(),
        "commit": commit(),
        "runs": runs,
        "figures": figures,
        "against": against or {},
    }
    print(json.dumps(line))
