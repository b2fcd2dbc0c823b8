"""Table contract -> Great Expectations suite -> Spark predicates, all three committed and proven to be in step.

The suite is the contract's face: readable JSON under `suites/`. Great Expectations itself costs seconds a call, so the
predicate of every rule is compiled from it once, here, and committed under `predicates/`; silver evaluates those in one
pass. `python -m expectations.suites` writes both, `--check` only says whether they are in step.
"""

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from expectations import great
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.errors import ContractBroken
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule, Table

FOLDER = Path(__file__).parent


def _expectations(rule: Rule) -> list[dict[str, Any]]:
    """One or two expectations; the rule holds where all of them do."""
    column: dict[str, Any] = {"column": rule.column}
    match rule:
        case Required():
            found = [("expect_column_values_to_not_be_null", column)]
        case Between(low=low, high=high):
            found = [("expect_column_values_to_be_between", {**column, "min_value": low, "max_value": high})]
        case OneOf(values=values):
            found = [("expect_column_values_to_be_in_set", {**column, "value_set": list(values)})]
        case Digits(length=length):
            # A regular expression with `$` would accept a trailing line feed.
            exact = {**column, "min_value": length, "max_value": length}
            found = [
                ("expect_column_values_to_not_match_regex", {**column, "regex": "[^0-9]"}),
                ("expect_column_value_lengths_to_be_between", exact),
            ]
        case Length(low=low, high=high):
            found = [("expect_column_value_lengths_to_be_between", {**column, "min_value": low, "max_value": high})]
        case Holds():
            found = [("expect_column_values_to_be_in_set", {**column, "value_set": [True]})]
    return [{"type": kind, "kwargs": kwargs, "meta": {"rule": rule.name}} for kind, kwargs in found]


def suite(table: Table) -> dict[str, Any]:
    """The suite of a table, in Great Expectations' own JSON form."""
    return {
        "name": table.name,
        "meta": {"table": table.name, "grain": table.grain},
        "expectations": [e for rule in table.rules for e in _expectations(rule)],
    }


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _digest(table: Table) -> str:
    return hashlib.sha256((table.ddl + _text(suite(table))).encode()).hexdigest()


def _committed(folder: Path, what: str, table: Table) -> Any:
    path = folder / what / f"{table.name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ContractBroken(
            f"{what}/{path.name} cannot be read ({type(error).__name__}), so {table.name} cannot be judged.",
            "Restore it from version control, or run `make generate`.",
        ) from None


def evaluable(table: Table, folder: Path = FOLDER) -> Mapping[str, str]:
    """Rule name -> Spark predicate that is true where the rule is broken.

    ContractBroken when the committed suite or its predicates cannot be read, or are not those of today's contract.
    """
    described, compiled = _committed(folder, "suites", table), _committed(folder, "predicates", table)
    if described != suite(table):
        theirs = described.get("expectations", []) if isinstance(described, dict) else []
        known = {e["type"] for e in suite(table)["expectations"]}
        foreign = sorted({str(e.get("type")) for e in theirs if isinstance(e, dict)} - known)
        found = f"has expectations of no rule of the contract: {', '.join(foreign)}" if foreign else "differs from it"
        raise ContractBroken(f"The suite of {table.name} {found}.", "Run `make generate`.")
    if not isinstance(compiled, dict) or compiled.get("contract") != _digest(table):
        raise ContractBroken(
            f"predicates/{table.name}.json was not compiled from today's contract.", "Run `make generate`."
        )
    rules: Mapping[str, str] = compiled["rules"]
    return rules


@cache
def predicates(table_name: str) -> Mapping[str, str]:
    """The predicates of a table, as `evaluable` gives them."""
    return evaluable(next(t for t in silver.TABLES if t.name == table_name))


def compile_predicates(tables: list[Table]) -> dict[str, dict[str, str]]:
    """Predicates of every table, from real validations of empty frames."""
    from lakehouse.session import build_session

    spark = build_session(conf.load(), "compile suites")
    made = great.context()
    batches = great.batches(made, "lake")
    compiled: dict[str, dict[str, str]] = {}
    for table in tables:
        described = great.suite_of(made, suite(table))
        # A frame that the optimiser knows to be empty: six times faster than one made of no rows.
        columns = ", ".join(f"CAST(NULL AS {c.type}) AS `{c.name}`" for c in table.columns)
        batch = batches.get_batch({"dataframe": spark.sql(f"SELECT {columns} WHERE false")})
        result = batch.validate(
            described,
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(table.key)},
        )
        parts: dict[str, list[str]] = {rule.name: [] for rule in table.rules}
        for one in result.results:
            query = one.result.get("unexpected_index_query")
            if query is None:
                raise ContractBroken(f"{table.name}: {one.expectation_config.type} gave no predicate.")
            parts[one.expectation_config.meta["rule"]].append(_predicate(query))
        compiled[table.name] = {name: " OR ".join(sorted(found)) for name, found in parts.items()}
    return compiled


def _predicate(query: str) -> str:
    """The text inside `df.filter(F.expr('...'))`, false where it is null."""
    call = ast.parse(query, mode="eval").body
    assert isinstance(call, ast.Call)
    inner = call.args[0]
    assert isinstance(inner, ast.Call)
    text = inner.args[0]
    assert isinstance(text, ast.Constant)
    assert isinstance(text.value, str)
    return f"coalesce({text.value}, false)"


def main(argv: list[str]) -> int:
    """Write the suites and predicates of every table with rules; with --check, only compare."""
    parser = argparse.ArgumentParser(prog="python -m expectations.suites", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something is out of step")
    check = parser.parse_args(argv).check
    tables = [table for table in silver.TABLES if table.rules]
    compiled = compile_predicates(tables)
    stale = []
    for table in tables:
        content = {"contract": _digest(table), "rules": compiled[table.name]}
        for path, text in (
            (FOLDER / "suites" / f"{table.name}.json", _text(suite(table))),
            (FOLDER / "predicates" / f"{table.name}.json", _text(content)),
        ):
            if path.exists() and path.read_text() == text:
                continue
            stale.append(str(path.relative_to(FOLDER)))
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    print(("out of step: " if check else "written: ") + ", ".join(stale) if stale else "everything is in step")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
