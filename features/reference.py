"""The catalogue for others: features/REFERENCE.md for people, and the names of the features for the language of rules.

Written by `python -m features.reference`. Admission reads rules too and may not import the features.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from features.catalogue import FEATURES, NAMES
from features.expressions import Operation
from features.feature import Family, Feature
from lakehouse.settings import home

PAGE = Path(__file__).parent / "REFERENCE.md"
MODULE = home() / "expectations" / "rules" / "feature_names.py"

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


def module() -> str:
    """The names, as a module that needs no other."""
    names = "".join(f'    "{name}",\n' for name in NAMES)
    return (
        '"""The names of all features, in order; generated from `features/catalogue.py` by `make generate`."""\n\n'
        f"FEATURE_NAMES: tuple[str, ...] = (\n{names})\n"
    )


def main(argv: Sequence[str]) -> int:
    """Write page and module; with --check, only say whether they are in step."""
    parser = argparse.ArgumentParser(prog="python -m features.reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when one is out of step")
    checking, out_of_step = parser.parse_args(argv).check, False
    for path, text in ((PAGE, page()), (MODULE, module())):
        in_step = path.exists() and path.read_text() == text
        out_of_step = out_of_step or not in_step
        if not checking and not in_step:
            path.write_text(text)
        print(f"{path.name}: {'in step' if in_step else 'out of step' if checking else 'written'}")
    return 1 if checking and out_of_step else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
