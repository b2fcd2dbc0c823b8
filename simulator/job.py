"""`python -m simulator.job`: a synthetic world's past, its live part, or recorded payments, into the log."""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.errors import SettingsError
from lakehouse.log import configure
from lakehouse.runs import recorded
from simulator import replay
from simulator.history import Files, send_history
from simulator.live import Gate, play
from simulator.options import MINUTE_MS, Options
from simulator.progress import Watch


def instant(text: str) -> int:
    """Milliseconds of an ISO 8601 time; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no ISO 8601 time such as 2026-03-01T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _common(made: argparse.ArgumentParser) -> None:
    made.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    made.add_argument("--truth", type=Path, metavar="FILE", help="Parquet file for which payments are fraud, and how")
    made.add_argument("--manifest", type=Path, metavar="FILE", help="JSON file for options and counts of what was sent")


def _world(made: argparse.ArgumentParser) -> None:
    made.add_argument("--days", type=int, default=60, help="days of history (default 60)")
    made.add_argument("--payments-per-day", type=int, default=3_500, help="payments on an average day (default 3500)")
    made.add_argument(
        "--fraud-rate", type=float, default=0.004, help="share of payments that are fraud, 0 to 0.1 (default 0.004)"
    )
    made.add_argument("--seed", type=int, default=1, help="everything random follows from it (default 1)")
    made.add_argument("--rate", type=float, default=200.0, help="payments a real second of the live part (default 200)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m simulator.job", description=__doc__, epilog=_EPILOG)
    commands = made.add_subparsers(dest="command", required=True)

    past = commands.add_parser(
        "history", help="days of payments, as fast as the broker takes them", description=_HISTORY
    )
    _common(past)
    _world(past)
    past.add_argument("--end", type=instant, metavar="ISO", help="world time at which the live part ends (default now)")
    past.add_argument(
        "--live-seconds",
        type=float,
        default=0.0,
        help="real seconds kept free for a live part before --end (default 0)",
    )
    past.add_argument("--faults", type=int, default=0, help="broken records of each of eleven kinds (default 0)")

    now = commands.add_parser("live", help="a world's live part in real time", description=_LIVE)
    _common(now)
    _world(now)
    now.add_argument("--end", type=instant, metavar="ISO", help="world time at which the live part ends (default now)")
    now.add_argument("--live-seconds", type=float, help="real seconds of the whole live part (default --seconds)")
    now.add_argument("--skip", type=float, default=0.0, help="real seconds of it that were played before (default 0)")
    now.add_argument("--seconds", type=float, default=30.0, help="real seconds to play now (default 30)")
    now.add_argument(
        "--api-share", type=float, default=0.2, help="share of payments through the API, 0 to 1 (default 0.2)"
    )
    now.add_argument("--api-url", default="http://127.0.0.1:8000", help="the API's address (default %(default)s)")
    now.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="key with role replay; needed if --api-share > 0"
    )
    now.add_argument("--results", type=Path, metavar="FILE", help="a row a payment: JSON lines, or Parquet by its name")

    again = commands.add_parser("replay", help="recorded payments", description=f"{_REPLAY} {replay.RULE}")
    _common(again)
    again.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=f"folder that holds {replay.FILE}")
    again.add_argument("--days", type=int, help="only the last so many days of the recording (default all)")
    again.add_argument(
        "--end", type=instant, metavar="ISO", help="the recording ends in the week before it (default now)"
    )
    again.add_argument("--delay-days", type=float, default=7.0, help="days from a fraud to its label (default 7)")
    return made


def _end(given: int | None) -> int:
    # A record from the future would be refused: admission allows a few minutes (admission.max_ahead_s).
    now = _now_ms()
    if given is not None and given > now + MINUTE_MS:
        raise SettingsError(
            f"--end lies {(given - now) / 1000:,.0f} s in the future.", "It must not be later than now."
        )
    return now // MINUTE_MS * MINUTE_MS if given is None else given


def _options(given: argparse.Namespace, end_ms: int, live_s: float, faults: int = 0) -> Options:
    return Options(end_ms, given.days, given.payments_per_day, given.fraud_rate, given.seed, live_s, given.rate, faults)


def _history(given: argparse.Namespace) -> None:
    options = _options(given, _end(given.end), given.live_seconds, given.faults)
    with Watch("history") as watch:
        print(send_history(conf.load(given.env), options, Files(given.truth, given.manifest), watch.of, time.monotonic))


def _live(given: argparse.Namespace) -> None:
    if not 0 <= given.api_share <= 1:
        raise SettingsError(f"--api-share is {given.api_share:g}.", "It must be from 0 to 1.")
    if given.seconds <= 0:
        raise SettingsError(f"--seconds is {given.seconds:g}.", "It must be above 0.")
    gate = None
    if given.api_share > 0:
        if given.api_key_file is None:
            raise SettingsError(
                "--api-share is above 0 without --api-key-file.", "Name a key file, or set --api-share 0."
            )
        if not given.api_key_file.exists():
            raise SettingsError(f"There is no key file {given.api_key_file}.", "`make keys` creates local keys.")
        gate = Gate(given.api_url, given.api_key_file.read_text().strip())
        gate.connection().close()
    length = given.skip + given.seconds if given.live_seconds is None else given.live_seconds
    options = _options(given, _end(given.end), length)
    files = Files(given.truth, given.manifest)
    share, part = given.api_share, (given.skip, given.seconds)
    for line in play(conf.load(given.env), options, share, gate, given.results, files, *part):
        print(line)


def _replay(given: argparse.Namespace) -> None:
    if given.days is not None and given.days < 1:
        raise SettingsError(f"--days is {given.days}.", "It must be at least 1.")
    if not 0 <= given.delay_days <= 400:
        raise SettingsError(f"--delay-days is {given.delay_days:g}.", "It must be from 0 to 400.")
    found = replay.recorded(given.data, given.days, _end(given.end))
    files = Files(given.truth, given.manifest)
    with Watch("replay") as watch:
        print(replay.send_recording(conf.load(given.env), found, given.delay_days, files, watch.of, time.monotonic))


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    given = parser().parse_args(argv)
    commands = {"history": _history, "live": _live, "replay": _replay}

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "simulator")
        with recorded(
            settings, "simulator.job", "replay" if given.command == "replay" else "job", command=given.command
        ):
            commands[given.command](given)

    return jobs.guarded(work)


_EPILOG = "The same seed and options give the same records, byte for byte. `COMMAND --help` explains each command."
_HISTORY = (
    "Send the history of a synthetic world: payments of customers with homes and habits, the issuers' authorisations, "
    "chargebacks days later, and eight patterns of fraud. The history is --days long and ends where the live part "
    "begins: --live-seconds of real time at --rate payments a second, that is so many world seconds as the same "
    "payments take in the world. Every record is acknowledged by the broker, or the command ends with code 1."
)
_LIVE = (
    "Play the live part of the world with the same options as its history: each payment is sent at the instant at "
    "which it is due, a share through POST /v1/decisions, all others with authorisations and labels into the log. The "
    "world runs (--rate x 86400 / --payments-per-day) times faster than the clock; --rate is the mean over a world "
    "day. A long live part can be played piece by piece with --live-seconds and --skip. Prints percentiles of the "
    "time from the due instant to the decision. --truth and --manifest add to the files of the history."
)
_REPLAY = "Send recorded payments through the same log."

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
