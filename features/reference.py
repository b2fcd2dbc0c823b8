"""The catalogue as a page for people: features/REFERENCE.md, written by `python -m features.reference`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from features.catalogue import FEATURES
from features.expressions import Operation
from features.feature import Family, Feature

PAGE = Path(__file__).parent / "REFERENCE.md"

_HEAD = """# The features

Generated from `features/catalogue.py` by `make generate`; do not edit.

A feature describes a payment as of just before it: windows end there and never include it. *Missing* means unknown,
and the model sees it as such. A window's length is the last part of a name; *life* is everything since the first
payment. Amounts are minor units of the base currency.
"""


def _how(feature: Feature) -> str:
    a = feature.inputs
    match feature.operation:
        case Operation.VALUE:
            return a[0]
        case Operation.RATIO:
            return f"{a[0]} / {a[1]}"
        case Operation.ZSCORE:
            return f"({a[0]} - {a[1]}) / {a[2]}"
        case Operation.SURPLUS:
            return f"({a[0]} + 1) / ({a[1]} + 1)"
    raise AssertionError(feature.operation)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for family in get_args(Family):
        mine = [f for f in FEATURES if f.family == family]
        parts.append(f"\n## {family} ({len(mine)})\n")
        parts.append("| feature | meaning | window | unit | entity | from | without history | bound | pattern |")
        parts.append("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        parts += [
            f"| `{f.name}` | {f.meaning} | {f.window} | {f.unit} | {f.entity} | `{_how(f)}` "
            f"| {f.without_history} | {f.bound} | {f.pattern} |"
            for f in mine
        ]
    return "\n".join(parts) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write the page; with --check, only say whether it is in step."""
    parser = argparse.ArgumentParser(prog="python -m features.reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is out of step")
    text = page()
    in_step = PAGE.exists() and PAGE.read_text() == text
    if not parser.parse_args(argv).check and not in_step:
        PAGE.write_text(text)
    print(f"{PAGE.name}: {'in step' if in_step else 'out of step' if '--check' in argv else 'written'}")
    return 1 if "--check" in argv and not in_step else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
