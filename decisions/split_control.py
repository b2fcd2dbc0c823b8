"""The part of the control tool that is about traffic splits: what two people sign to begin and to end one."""

import argparse
from typing import Any

from expectations.control import InForce
from expectations.rules.rule_set import payload_of
from lakehouse.errors import ControlRefused
from lakehouse.settings import Settings

ENDED = payload_of({"digest": None})
OVER = "split.ended"
"""How the audit trail calls the end of a split."""


def begun(settings: Settings, now: InForce, digest: str, share_bp: int) -> str:
    """The payload that has a challenger decide for a share of the customers, beside the model in force now."""
    most = settings.experiment.split_most_bp
    if not 1 <= share_bp <= most:
        raise ControlRefused(
            f"The challenger's share is {share_bp} basis points of the customers.",
            f"Give at least 1 and at most {most} basis points (experiment.split_most_bp).",
        )
    serving = now.versions.get("model")
    if serving is None:
        raise ControlRefused("No model is in force.", "Put the first one into force: decisions.control activate.")
    return payload_of({"digest": digest, "share_bp": share_bp, "model_version": serving.version})


def shown(now: InForce) -> str:
    """A line on the split that is on, or on the one that another model in force has ended; empty before the first."""
    split, asked = now.split, now.newest_split
    if asked is None:
        return ""
    if split is None:
        return f"model {asked.digest[:12]} decides nothing any more: another version of scope model is in force"
    return f"model {split.digest[:12]} decides for {split.share:.2%} of the customers"


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """The options of the command `split`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--digest", help="of the challenger's bundle")
    which.add_argument("--end", action="store_true", help="the model in force decides everything again")
    share: dict[str, Any] = {"type": int, "metavar": "BASIS_POINTS"}
    parser.add_argument("--share-bp", **share, help="of the customers; at most experiment.split_most_bp")
