"""What a demo run is: its options, its world's folders and the settings file that makes the world the current one."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.receiver import CUSTOMERS, ONCALL
from deploy.local.job import ADDED, names
from lakehouse import settings as conf
from lakehouse.errors import SettingsError, Terminal

FAULTS_OF_EACH_KIND = 25
HELD_OUT_D = 14
"""Last days of matured history that no model learns from: evidence for the challenger."""
FIRST_BUDGET_PER_1000 = 2.0
"""Alert budget of the first champion; the challenger has `training.alert_budget_per_1000`."""
API_SHARE = 0.2
MOST_PARTS, LONGEST_LIVE_D = 10, 60
"""World time runs thousands of times faster in a live part, and no event may lie in the future: parts need room."""

LEAST_EXPIRY_S, LONGEST_EXPIRY_S = 600, 86_400
"""Customers are played when a live part is over: what it asked at its beginning must still be open."""


class DemoFailed(Terminal):
    """Something that the demo promises does not hold."""


@dataclass(frozen=True)
class Plan:
    """One demo world and what is to be done with it."""

    run_id: str
    seed: int
    days: int
    payments_per_day: int
    rate: float
    live_seconds: float
    """Of one live part."""
    parts: int
    """Live parts that fit the world: one in each run, the others with CONTINUE=1."""
    played: int
    """Live parts of earlier runs."""
    data: str
    began_at: str
    end: str
    """World time at which the last live part ends, ISO 8601."""

    @property
    def before(self) -> datetime:
        """World time a day before anything of the world happens: all live parts and the history lie behind it."""
        live_d = self.parts * self.live_seconds * self.rate / self.payments_per_day
        return datetime.fromisoformat(self.end) - timedelta(days=self.days + live_d + 1)

    @property
    def folder(self) -> Path:
        """The world's folder."""
        return state_folder() / "worlds" / self.run_id

    @property
    def truth(self) -> Path:
        """Which payments were fraud; never on a topic or in the lake."""
        return self.folder / "truth.parquet"

    @property
    def manifest(self) -> Path:
        """What the simulator says it sent."""
        return self.folder / "manifest.json"

    @property
    def predictions(self) -> Path:
        """Scores of the evaluated models on the last days."""
        return self.folder / "predictions.parquet"

    @property
    def live_results(self) -> Path:
        """What became of every live payment."""
        return self.folder / "live.parquet"

    @property
    def rules(self) -> Path:
        """The shipped rules and the one that is added live; there once that was asked for."""
        return self.folder / "rules.json"

    @property
    def watched(self) -> Path:
        """Merchants that are put on the watch list, one a line."""
        return self.folder / "watched.txt"

    @property
    def challenger(self) -> Path:
        """Digest of the model that wants the first one's place."""
        return self.folder / "challenger.txt"

    @property
    def delivered(self) -> Path:
        """What the receiver was sent in this live part."""
        return self.folder / f"delivered-{self.played}.jsonl"

    @property
    def log(self) -> Path:
        """Everything that the steps printed."""
        return self.folder / "demo.log"

    def settings_file(self) -> str:
        """The settings that differ in this world."""
        where = f"{conf.load('local').state_dir}/worlds/{self.run_id}"
        values: dict[str, Any] = {
            "kafka": {"topic_prefix": f"{self.run_id}."},
            "lake": {"root": f"{where}/lake"},
            "features": {"snapshot_folder": f"{where}/snapshots"},
            "models": {"store": f"{where}/models", "name": f"fraud-{self.run_id}"},
            "engine": {"state_folder": f"{where}/state"},
            "decision_store": {"file": f"{where}/decisions.sqlite"},
            "alerts": {"file": f"{where}/alerts.sqlite", **({} if self.data else self._alerts())},
            # A recording has neither categories nor countries.
            "quality": {"docs_folder": f"{where}/data_docs", **({"expected_columns": []} if self.data else {})},
            "training": {"seed": self.seed, "search_trials": 1},
        }
        return f"# The current world, written by `make demo`; `make wipe` removes it.\n{yaml.safe_dump(values)}"

    def _alerts(self) -> dict[str, Any]:
        """Reviews and declines go to the on-call desk, questions to the bank's notification service: one receiver."""
        api = conf.load("local").api
        expiry_s = min(LONGEST_EXPIRY_S, LEAST_EXPIRY_S + int(self.live_seconds))
        return {
            "rules": [{"name": "not-approved", "outcomes": ["decline", "review"], "channels": [ONCALL]}],
            "channels": [{"name": name, "kind": "webhook"} for name in (ONCALL, CUSTOMERS)],
            "allow_private": ["127.0.0.0/8"],
            "group_s": 2,
            "verification": {
                "channel": CUSTOMERS,
                "base_url": f"http://{api.host}:{api.port}",
                "expiry_s": expiry_s,
            },
        }

    def begin(self) -> None:
        """Make the folder and put the world's settings in force."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.save()
        world_file().write_text(self.settings_file())

    def save(self) -> None:
        """Write the plan beside what it made."""
        (self.folder / "plan.json").write_text(json.dumps(asdict(self), indent=1))

    def after_a_part(self) -> "Plan":
        """The plan of the next run."""
        return replace(self, played=self.played + 1)


def _parts(arguments: argparse.Namespace) -> int:
    if arguments.data:
        return 0
    pace = arguments.rate * 86_400 / arguments.payments_per_day
    return max(1, min(MOST_PARTS, int(LONGEST_LIVE_D * 86_400 / (arguments.seconds * pace))))


def state_folder() -> Path:
    """The state folder of the local environment."""
    return conf.resolve(conf.load("local").state_dir)


def world_file() -> Path:
    """The settings file of the current world."""
    return state_folder() / "world.yml"


def new(arguments: argparse.Namespace) -> Plan:
    """A new world by the command line."""
    now = datetime.now(UTC)
    return Plan(
        run_id=now.strftime("demo-%Y%m%d-%H%M%S"),
        seed=arguments.seed,
        days=arguments.days,
        payments_per_day=arguments.payments_per_day,
        rate=arguments.rate,
        live_seconds=0 if arguments.data else arguments.seconds,
        parts=_parts(arguments),
        played=0,
        data=arguments.data or "",
        began_at=now.isoformat(timespec="seconds"),
        end=now.replace(second=0, microsecond=0).isoformat(),
    )


def last() -> Plan:
    """The current world's plan; SettingsError when there is none."""
    current = world_file()
    if not current.exists():
        raise SettingsError("There is no world to continue.", "Run `make demo` without CONTINUE first.")
    prefix = yaml.safe_load(current.read_text())["kafka"]["topic_prefix"]
    plan = state_folder() / "worlds" / prefix.rstrip(".") / "plan.json"
    found = Plan(**json.loads(plan.read_text()))
    if found.data or not found.played:
        raise SettingsError("The last world has no live part to go on from.", "Run `make demo` without CONTINUE.")
    if found.played == found.parts:
        raise SettingsError(
            f"All {found.parts} live parts of world {found.run_id} were played: it has caught up with the clock.",
            "Run `make demo` without CONTINUE for a new world.",
        )
    return found


def _above(low: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not value > low:
            raise argparse.ArgumentTypeError(f"{text} is not above {low:g}")
        return value

    return read


def parser() -> argparse.ArgumentParser:
    """The command line of the demo."""
    made = argparse.ArgumentParser(
        prog="python -m deploy.demo.job",
        description="From nothing to live decisions: history through Kafka, bronze, silver and gold, training, the "
        "engine and the API, then live payments, with a rule added meanwhile, alerts delivered and customers asked; "
        "ends with tables and .fraudlake/demo.json.",
    )
    made.add_argument("--seed", type=int, default=1, help="of the synthetic world (default 1)")
    made.add_argument("--days", type=_above(0, int), default=60, help="of history (default 60)")
    made.add_argument("--payments-per-day", type=_above(0, int), default=3450, help="of the world (default 3450)")
    made.add_argument("--rate", type=_above(0, float), default=200, help="live payments a second (default 200)")
    made.add_argument("--seconds", type=_above(0, float), default=30, help="of live payments (default 30)")
    made.add_argument("--data", metavar="FOLDER", help="recorded payments instead of a synthetic world; no live part")
    made.add_argument("--with", dest="added", type=names, default=[], help=f"services to add: {','.join(ADDED)}")
    made.add_argument("--continue", dest="go_on", action="store_true", help="let time pass in the last world")
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line."""
    return parser().parse_args(argv)
