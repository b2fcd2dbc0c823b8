"""The commands and options of `python -m decisions.control`."""

import argparse
from collections.abc import Sequence

from decisions import list_control, rule_control, split_control
from decisions.model_control import WAIT_S
from expectations.control import BUNDLE_SCOPES, SCOPES
from expectations.rules.changing import DELTA_SCOPES
from expectations.rules.rule_set import OUTCOMES
from expectations.rules.thresholds import MOST_EXPLORED
from lakehouse.moments import moment_ms


def _common() -> argparse.ArgumentParser:
    """The options of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--env")
    common.add_argument("--author-key", help="PEM file of the author (default: author.pem of the key folder)")
    common.add_argument("--approver-key", help="PEM file of somebody else (default: approver.pem of the key folder)")
    common.add_argument(
        "--received-at",
        type=moment_ms,
        metavar="TIME",
        help="with its time zone, for history that is imported behind it: not after that begins (default: now)",
    )
    return common


def _staging_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage-here",
        action="store_true",
        help="model, shadow, split, staging: verify the bundle in this process, for a log that no engine reads yet",
    )
    parser.add_argument(
        "--wait-s", type=float, default=WAIT_S, metavar="SECONDS", help="for the engine to stage it (default 60)"
    )


def parsed(argv: Sequence[str], told: str) -> argparse.Namespace:
    """What was asked for; `told` is the text that `--help` shows."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions.control", description=told, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions, common = parser.add_subparsers(dest="action", required=True), [_common()]
    actions.add_parser("show", help="what is in force at the end of the log", parents=common)
    put = actions.add_parser("activate", help="write a signed control event", parents=common)
    put.add_argument("--scope", required=True, choices=[scope for scope in SCOPES if scope not in ("keys", "split")])
    put.add_argument("--file", help="the JSON file, for all scopes but model, shadow and staging")
    put.add_argument(
        "--digest",
        help="model, shadow, staging: SHA-256 of the bundle's manifest, from `training.job`; shadow: `none` ends it",
    )
    _staging_arguments(put)
    rule_control.arguments_of(actions.add_parser("rules", help="the rules"), common)
    list_control.list_arguments(actions.add_parser("lists", help="block, allow and watch lists"), common)
    list_control.suppression_arguments(actions.add_parser("suppress", help="rules that do not act for some"), common)
    cuts = actions.add_parser("thresholds", help="the cuts between the bands of scores", parents=common)
    for name in OUTCOMES[1:]:
        cuts.add_argument(f"--{name}", type=float, required=True, metavar="SCORE")
    share = f"of what would be declined, let so much through, at most {MOST_EXPLORED} (default: nothing)"
    cuts.add_argument("--explore-share", type=float, metavar="SHARE", help=share)
    limit = "only up to this amount, in minor units of the base currency"
    cuts.add_argument("--explore-up-to-minor", type=int, metavar="MINOR", help=limit)
    split = actions.add_parser("split", help="a challenger decides for a share of the customers", parents=common)
    split_control.arguments_of(split)
    _staging_arguments(split)
    key = actions.add_parser("keys", help="tokens of the next master key from here on", parents=common)
    key.add_argument("--token-version", type=int, required=True, metavar="N")
    back = actions.add_parser("rollback", help="an earlier version again, as the next one", parents=common)
    once = {*DELTA_SCOPES, "staging", "keys", "split"}
    back.add_argument("--scope", required=True, choices=sorted({*SCOPES} - once))
    _staging_arguments(back)
    back.add_argument("--to-version", required=True, type=int, metavar="N")
    arguments = parser.parse_args(argv)
    if arguments.action == "activate" and not (
        arguments.digest if arguments.scope in BUNDLE_SCOPES else arguments.file
    ):
        put.error("--scope model, shadow and staging need --digest, the others --file")
    return arguments
