"""From a challenger to the champion and back: on evidence, with two signatures, at one place of the log.

python -m training.promote shadow --digest SHA256      plans the test, says its power, begins it
python -m training.promote check --digest SHA256       the criteria, over what has matured so far
python -m training.promote split --digest SHA256 --share-bp 1000   plans a test on 10 % of the customers, begins it
python -m training.promote split --digest SHA256 --check           its criteria, over what has matured so far
python -m training.promote split --end --reason "..."              the model in force decides everything again
python -m training.promote approve --digest SHA256     criteria met: author and approver sign
python -m training.promote run --digest SHA256         puts the approved model into force
python -m training.promote guard                       goes back, or ends the split, when a guard rail breaks
python -m training.promote rollback --reason "..."     goes back at once
python -m training.promote watch                       promotes where the alias champion is moved, guards, goes back
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from decisions.model_control import WAIT_S
from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.errors import ControlRefused, Transient
from lakehouse.log import configure
from lakehouse.moments import moment_ms
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from training import promotion, traffic
from training.criteria import failed
from training.following import Watcher, guarded, guarded_split
from training.promotion import Signers

SHADOW, HISTORY = "shadow", "history"


def _say(text: str) -> None:
    print(text, flush=True)


def _watch(settings: Settings) -> None:
    watcher = Watcher(settings, _say)
    _say(f"watching {settings.models.registry_uri}")
    try:
        while True:
            try:
                watcher.look()
            except Transient as error:
                _say(f"tried again: {error}")
            time.sleep(settings.guard.look_s)
    finally:
        watcher.close()


def _run(given: argparse.Namespace, settings: Settings) -> int:
    keys = Signers.local(settings)
    by = Signers(given.author_key or keys.author, given.approver_key or keys.approver)
    if given.what == "shadow":
        if given.end:
            promotion.end_shadow(settings, by, given.received_at)
            _say("nobody is in shadow")
        else:
            promotion.begin_shadow(settings, given.digest, by, _say, given.wait_s, given.received_at)
            _say(f"model {given.digest[:12]} is in shadow")
    elif given.what == "split":
        return _split(given, settings, by)
    elif given.what == "check":
        criteria = promotion.judge(settings, given.digest, given.on == HISTORY)
        _say(promotion.spelled(criteria))
        return int(bool(failed(criteria)))
    elif given.what == "approve":
        way = (given.without_evidence, given.on == HISTORY, given.wait_s, given.received_at)
        _say(promotion.spelled(promotion.approve(settings, given.digest, by, *way)))
        _say(f"model {given.digest[:12]} is approved")
    elif given.what == "run":
        offset = promotion.promote(settings, given.digest, given.received_at)
        _say(f"model {given.digest[:12]} is in force from offset {offset} on")
    elif given.what == "rollback":
        digest, offset = promotion.rollback(settings, given.reason, by, given.received_at, given.digest)
        _say(f"model {digest[:12]} is in force again from offset {offset} on")
    elif given.what == "guard" and (challenger := traffic.challenger(settings)) is not None:
        stayed = guarded_split(settings, challenger, _say)
        _say(f"model {challenger[:12]} {'stayed within its guard rails' if stayed else 'decides nothing any more'}")
        return int(not stayed)
    elif given.what == "guard":
        serving = promotion.in_force(settings)
        if serving is None:
            raise ControlRefused("No model is in force.")
        stayed = guarded(settings, serving, _say)
        _say(f"model {serving[:12]} {'stayed within its guard rails' if stayed else 'is no longer in force'}")
        return int(not stayed)
    else:
        _watch(settings)
    return 0


def _split(given: argparse.Namespace, settings: Settings, by: Signers) -> int:
    if given.end:
        if given.reason is None:
            raise ControlRefused("The end of a split needs its --reason, for the audit trail.")
        digest, offset = traffic.end(settings, given.reason, by, given.received_at)
        _say(f"model {digest[:12]} decides nothing any more from offset {offset} on")
    elif given.check:
        criteria = traffic.judge(settings, given.digest)
        _say(promotion.spelled(criteria))
        return int(bool(failed(criteria)))
    elif given.share_bp is None:
        raise ControlRefused("A split needs the challenger's share: --share-bp 1000 is 10 % of the customers.")
    else:
        traffic.begin(settings, given.digest, given.share_bp, by, _say, given.wait_s, given.received_at)
        _say(f"model {given.digest[:12]} decides for {given.share_bp / 100:g} % of the customers")
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    common.add_argument(
        "--author-key", type=Path, help="PEM file of the author (default: author.pem of the key folder)"
    )
    common.add_argument("--approver-key", type=Path, help="PEM file of somebody else (default: approver.pem)")
    common.add_argument(
        "--wait-s", type=float, default=WAIT_S, metavar="SECONDS", help="for the engine to stage it (default 60)"
    )
    common.add_argument(
        "--received-at",
        type=moment_ms,
        metavar="TIME",
        help="with its time zone, in a world whose clock is behind ours (default: now)",
    )
    made = argparse.ArgumentParser(
        prog="python -m training.promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = made.add_subparsers(dest="what", required=True)
    begin = actions.add_parser("shadow", help="plan a test and put the challenger into shadow", parents=[common])
    which = begin.add_mutually_exclusive_group(required=True)
    which.add_argument("--digest", help="of the challenger's bundle, from training.job")
    which.add_argument("--end", action="store_true", help="nobody in shadow any more")
    split = actions.add_parser("split", help="let the challenger decide for a share of the customers", parents=[common])
    which = split.add_mutually_exclusive_group(required=True)
    which.add_argument("--digest", help="of the challenger's bundle")
    which.add_argument("--end", action="store_true", help="the model in force decides everything again")
    split.add_argument("--share-bp", type=int, metavar="BASIS_POINTS", help="at most experiment.split_most_bp")
    split.add_argument("--check", action="store_true", help="judge its criteria; exit code 1 when one is not met")
    split.add_argument("--reason", help="of its end, for the audit trail")
    for name, text in (
        ("check", "judge the criteria; exit code 1 when one is not met"),
        ("approve", "judge, stage and sign"),
        ("run", "put an approved model into force"),
    ):
        action = actions.add_parser(name, help=text, parents=[common])
        action.add_argument("--digest", required=True, help="of the challenger's bundle")
        if name != "run":
            action.add_argument(
                "--on",
                choices=(SHADOW, HISTORY),
                default=SHADOW,
                help="what it is judged on: what it did in shadow, or matured history that no model learnt from",
            )
        if name == "approve":
            action.add_argument("--without-evidence", metavar="REASON", help="criteria are not judged; it is recorded")
    back = actions.add_parser("rollback", help="the model before the one in force, at once", parents=[common])
    back.add_argument("--reason", required=True, help="for the audit trail")
    back.add_argument("--digest", help="of the model to go back from; refused where another one is in force")
    actions.add_parser("guard", help="watch the model in force, go back when it breaks", parents=[common])
    actions.add_parser("watch", help="follow the alias champion until stopped", parents=[common])
    return made


def main(argv: Sequence[str]) -> int:
    """Do one of it; exit code 1 where it was refused or taken back."""
    given = _parser().parse_args(argv)
    found: list[int] = []

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "training")
        agreed(settings)
        with recorded(settings, "training.promote", action=given.what) as run:
            run.exit_code = _run(given, settings)
            found.append(run.exit_code)

    return jobs.guarded(work) or found[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
