"""The part of the control tool that is about lists and suppressions.

Values come from a file or standard input, one a line, never from the command line: other users of the machine can read
that. A clear value becomes its token here; only tokens are signed and written.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from expectations.control import InForce
from expectations.rules.rule_set import payload_of
from expectations.rules.shapes import TOKEN
from expectations.rules.vocabulary import ENTITIES, LISTS
from lakehouse.crypto import Tokens
from lakehouse.errors import ControlRefused
from lakehouse.moments import moment_ms


def tokens_of(kind: str, values: Iterable[str], tokens: Tokens) -> list[str]:
    """The token of every value, in order, each once; a token stays what it is, and so does a merchant."""
    out = []
    for value in (line.strip() for line in values):
        if value and (kind == "merchant" or TOKEN.fullmatch(value)):
            out.append(value)
        elif value:
            out.append(tokens.text(tokens.digests(kind, [value.encode()])[0]))
    if not out:
        raise ControlRefused("No values were given.", "Write them to standard input or a --file, one a line.")
    return list(dict.fromkeys(out))


def lines_of(file: str | None) -> list[str]:
    """The lines of a file, or of standard input."""
    try:
        return (sys.stdin.read() if file in (None, "-") else Path(str(file)).read_text()).splitlines()
    except OSError as error:
        raise ControlRefused(f"{file} cannot be read: {error.strerror}.") from None


def list_payload(arguments: argparse.Namespace, tokens: Tokens) -> str:
    """The delta of `lists add` or `lists remove`."""
    found = tokens_of(arguments.kind, lines_of(arguments.file), tokens)
    keys = [{"list": arguments.list, "kind": arguments.kind, "token": token} for token in found]
    if arguments.what == "remove":
        return payload_of({"add": [], "remove": keys})
    rest = {"reason": arguments.reason, "expires_at": arguments.expires}
    return payload_of({"add": [{**key, **rest} for key in keys], "remove": []})


def suppression_payload(arguments: argparse.Namespace, tokens: Tokens) -> str:
    """The delta of `suppress add` or `suppress remove`."""
    found = tokens_of("customer", lines_of(arguments.file), tokens)
    keys: list[dict[str, Any]] = [{"customer": token, "rule": arguments.rule} for token in found]
    if arguments.what == "remove":
        return payload_of({"add": [], "remove": keys})
    rest = {"reason": arguments.reason, "until": arguments.until}
    return payload_of({"add": [{**key, **rest} for key in keys], "remove": []})


def shown(in_force: InForce, scope: str) -> str:
    """The entries in force of a scope, one a line."""
    never = 1 << 60
    lines = [
        f"{' '.join(key)}  {'for ever' if until > never else f'until {until}'}  {reason}"
        for key, (reason, until) in sorted(in_force.entries[scope].by_key.items())
    ]
    return "\n".join(lines) or f"no {scope} are in force"


def list_arguments(parser: argparse.ArgumentParser, common: list[argparse.ArgumentParser]) -> None:
    """The subcommands of `lists`."""
    actions = parser.add_subparsers(dest="what", required=True)
    add = actions.add_parser("add", help="entries, read from a file or standard input", parents=common)
    remove = actions.add_parser("remove", help="the same, taken off", parents=common)
    actions.add_parser("show", help="the entries in force", parents=common)
    for one in (add, remove):
        one.add_argument("--list", required=True, choices=LISTS)
        one.add_argument("--kind", required=True, choices=ENTITIES)
        one.add_argument("--file", help="one value or token a line (default: standard input)")
    add.add_argument("--reason", required=True)
    add.add_argument("--expires", type=moment_ms, metavar="TIME", help="with its time zone (default: never)")


def suppression_arguments(parser: argparse.ArgumentParser, common: list[argparse.ArgumentParser]) -> None:
    """The subcommands of `suppress`."""
    actions = parser.add_subparsers(dest="what", required=True)
    add = actions.add_parser(
        "add", help="a rule does not act for customers, read from a file or standard input", parents=common
    )
    remove = actions.add_parser("remove", help="it acts again", parents=common)
    actions.add_parser("show", help="the suppressions in force", parents=common)
    for one in (add, remove):
        one.add_argument("--rule", required=True, help="its id")
        one.add_argument("--file", help="one customer or token a line (default: standard input)")
    add.add_argument("--reason", required=True)
    add.add_argument("--until", type=moment_ms, required=True, metavar="TIME", help="with its time zone")
