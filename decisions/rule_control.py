"""The part of the control tool that is about rules: check a file, show what is in force, say what uses a column."""

import argparse
from pathlib import Path

import orjson

from expectations.control import InForce
from expectations.rules.rule_set import Rule, RuleSet, payload_of
from expectations.rules.vocabulary import COLUMNS, FEATURES
from lakehouse.errors import ControlRefused, RuleRefused


def file_payload(path: str) -> str:
    """A JSON file as the one text that is signed."""
    try:
        content = orjson.loads(Path(path).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ControlRefused(f"{path} cannot be read: {error}.", "It must be a JSON file.") from None
    return payload_of(content)


def checked(path: str) -> str:
    """What is to be said of a file of rules; RuleRefused names every rule that is wrong, not only the first."""
    payload = file_payload(path)
    content = orjson.loads(payload)
    entries = content.get("rules") if isinstance(content, dict) else None
    wrong = []
    for at, entry in enumerate(entries if isinstance(entries, list) else [], 1):
        try:
            RuleSet.of(payload_of({"rules": [entry]}))
        except ControlRefused as error:
            wrong.append(str(error).replace("Rule 1:", f"Rule {at}:"))
    if wrong:
        raise RuleRefused("\n".join(wrong))
    return "\n".join(_line(rule) for rule in RuleSet.of(payload).rules)


def _line(rule: Rule) -> str:
    action = f"score {rule.score:+g}" if rule.score else ("approve", "challenge", "review", "decline")[rule.severity]
    return f"{rule.name:40} {rule.state:8} {action:12} {rule.reason_code:24} {rule.owner}"


def shown(in_force: InForce) -> str:
    """The rules in force, one a line."""
    return "\n".join(_line(rule) for rule in in_force.rules.rules) or "no rules are in force"


def uses(in_force: InForce, column: str | None) -> str:
    """Which rules read which features and fields: of one column, or of all that are read."""
    if column is not None and column not in COLUMNS:
        raise ControlRefused(f"There is no column {column}.", "features/REFERENCE.md has the features.")
    found: dict[str, list[str]] = {} if column is None else {column: []}
    for rule in in_force.rules.rules:
        for name in rule.node.columns:
            if column in (None, name):
                found.setdefault(name, []).append(f"{rule.name} ({rule.state})")
    lines = [
        f"{name:40} {'feature' if name in FEATURES else 'field':8} {', '.join(rules) or 'no rule'}"
        for name, rules in sorted(found.items())
    ]
    return "\n".join(lines) or "no rules are in force"


def run(arguments: argparse.Namespace, in_force: InForce) -> str:
    """The answer to `rules show` and `rules uses`."""
    return shown(in_force) if arguments.what == "show" else uses(in_force, arguments.column)


def arguments_of(parser: argparse.ArgumentParser, common: list[argparse.ArgumentParser]) -> None:
    """The subcommands of `rules`."""
    actions = parser.add_subparsers(dest="what", required=True)
    for name, help_ in (("check", "compile a file and run its tests"), ("activate", "put a file into force")):
        actions.add_parser(name, help=help_, parents=common).add_argument("file")
    actions.add_parser("show", help="the rules in force", parents=common)
    actions.add_parser("uses", help="which rules read a feature or field", parents=common).add_argument(
        "column", nargs="?"
    )
