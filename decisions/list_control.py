"""The part of the control tool that is about lists and suppressions.

Values come from a file or standard input, one a line, never from the command line: other users of the machine can read
that. A clear value becomes its token here; only tokens are signed and written.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def list_payload(arguments: argparse.Namespace, tokens: Sequence[Tokens]) -> str:
    """The delta of `lists add` or `lists remove`; `tokens` are of every key version, the one in force last."""

    def keys(found: list[str]) -> list[dict[str, Any]]:
        return [{"list": arguments.list, "kind": arguments.kind, "token": token} for token in found]

    return _delta(arguments, arguments.kind, tokens, keys, {"expires_at": getattr(arguments, "expires", None)})


def suppression_payload(arguments: argparse.Namespace, tokens: Sequence[Tokens]) -> str:
    """The delta of `suppress add` or `suppress remove`; `tokens` are of every key version, the one in force last."""

    def keys(found: list[str]) -> list[dict[str, Any]]:
        return [{"customer": token, "rule": arguments.rule} for token in found]

    return _delta(arguments, "customer", tokens, keys, {"until": getattr(arguments, "until", None)})


def _delta(
    arguments: argparse.Namespace,
    kind: str,
    tokens: Sequence[Tokens],
    keys: Callable[[list[str]], list[dict[str, Any]]],
    until: Mapping[str, int | None],
) -> str:
    """What names somebody by a token of a version before goes too: it would count beside the new entry."""
    values = lines_of(arguments.file)
    now = tokens_of(kind, values, tokens[-1])
    former = [token for before in tokens[:-1] for token in tokens_of(kind, values, before) if token not in now]
    if arguments.what == "remove":
        return payload_of({"add": [], "remove": keys([*now, *former])})
    added = [{**key, "reason": arguments.reason, **until} for key in keys(now)]
    return payload_of({"add": added, "remove": keys(former)})


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
