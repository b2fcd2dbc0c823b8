"""The demo: every step as the process that a user would run, on one world of its own."""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo import measuring, plan, receiver, tables, watching
from deploy.demo.customers import Customers, Told
from deploy.demo.lake import Lake
from deploy.demo.plan import API_SHARE, FAULTS_OF_EACH_KIND, FIRST_BUDGET_PER_1000, HELD_OUT_D, Plan
from deploy.demo.steps import Steps
from deploy.local import job as services
from deploy.local.process import Service, port_answers, require_free
from lakehouse import jobs, keys, topics
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError
from lakehouse.moments import DAY_MS, day_floor
from lakehouse.settings import Settings

LAKE = ("bronze.job", "silver.job", "features.job", "gold.job", "--available-now", "--on-request")


def evidence_from_ms(history_end_ms: int, label_gap_d: int) -> int:
    """The first of the matured days of history that no model learns from."""
    return day_floor(history_end_ms) - (label_gap_d + HELD_OUT_D) * DAY_MS


class Demo:
    """One run of the demo."""

    def __init__(self, world: Plan, settings: Settings, steps: Steps) -> None:
        self.world, self.settings, self.steps = world, settings, steps
        self.tables = Lake(conf.lake_root(settings))
        # One session for every pass over the lake: it starts while the services do.
        self.lake = self.steps.begin("lakehouse.jobs", *LAKE)

    def _world_options(self) -> list[str]:
        world = self.world
        return [
            *("--seed", str(world.seed), "--days", str(world.days), "--end", world.end),
            *("--payments-per-day", str(world.payments_per_day), "--rate", str(world.rate)),
            *("--live-seconds", str(world.live_seconds * world.parts)),
        ]

    def history(self) -> None:
        """Payments of the past, through Kafka into the lake."""
        world = self.world
        files = ["--truth", str(world.truth), "--manifest", str(world.manifest)]
        if world.data:
            options = ["replay", "--data", world.data, "--days", str(world.days), "--end", world.end]
            self.steps.run("recorded payments into the log", "simulator.job", *options, *files)
        else:
            options = ["history", *self._world_options()]
            faults = ["--faults", str(FAULTS_OF_EACH_KIND)]
            self.steps.run("history into the log", "simulator.job", *options, *faults, *files)
        self.steps.request("bronze, silver, features, gold", self.lake, jobs.ALL_DONE)

    def model(self) -> None:
        """A model from that history and the shipped rules, in force from here on.

        Where payments follow, the models' last days are left out as evidence, and a first champion stops less.
        """
        end_ms = measuring.history_end_ms(self.world)
        at, fitted = self.settings.training, []
        if not self.world.data:
            until_ms = evidence_from_ms(end_ms, at.label_gap_d)
            # Validation days, on which trees are counted and scores calibrated, are no evidence either.
            end_ms = until_ms + (at.label_gap_d + at.test_d) * DAY_MS
            fitted = ["--fitted-until-ms", str(until_ms)]
        training = ["--predictions", str(self.world.predictions), "--test-end-ms", str(end_ms), *fitted]
        digest = self.steps.run("training", "training.job", *training)
        if not self.world.data:
            self.world.challenger.write_text(digest)
            budget = ("--budget-per-1000", str(FIRST_BUDGET_PER_1000))
            digest = self.steps.run("a first champion that stops less", "training.recut", "--digest", digest, *budget)
        model = ("activate", "--scope", "model", "--digest", digest, "--stage-here")
        self.steps.run("model into force", "decisions.control", *model, *self._begun())
        rules = str(self._shipped_rules())
        self.steps.run("rules into force", "decisions.control", "rules", "activate", rules, *self._begun())

    def serve(self) -> None:
        """Engine, API, alerts and the receiver of these: all start at once, then each is waited for."""
        at = self.settings
        ready: dict[Service, Callable[[], bool]] = {}
        for name, module, port, setting in (
            ("engine", "decisions.job", at.engine.metrics_port, "engine.metrics_port"),
            ("api", "serving.job", at.api.port, "api.port"),
            ("alerts", "serving.alerts", at.alerts.metrics_port, "alerts.metrics_port"),
        ):
            require_free(port, setting)
            ready[self._started(name, module)] = partial(port_answers, port)
        targets = receiver.target_files(conf.resolve(at.keys.folder)).values()
        for file in targets:
            # Of a receiver that was killed.
            file.unlink(missing_ok=True)
        receiving = self._started("receiver", "deploy.demo.receiver", str(self.world.delivered))
        ready[receiving] = lambda: all(file.exists() for file in targets)
        for service, answers in ready.items():
            service.wait_ready(answers, at.services.start_timeout_s)

    def _started(self, name: str, module: str, *arguments: str) -> Service:
        self.steps.say(f"{name} starts")
        service = Service(name, services.services_folder(self.settings))
        service.start([sys.executable, "-m", module, *arguments], {}, conf.home())
        return service

    def live(self) -> Told:
        """Live payments, with rules and lists changed on their way, what was told of them, and what they became."""
        world = self.world
        key = conf.resolve(self.settings.keys.folder) / "api-replay.key"
        is_changed, is_approved = world.rules.exists(), False
        if not is_changed:
            share = watching.watched_share(world.rate * world.live_seconds)
            world.watched.write_text("\n".join(watching.worst_of(self.tables, share)))
            is_approved = self.challenge()
        # A part that was begun is never played again: its payments may be on the log.
        world.after_a_part().save()
        with self.steps.beside(
            f"{world.live_seconds:.0f} s of live payments at {world.rate:.0f}/s, {API_SHARE:.0%} through the API",
            "times faster than the clock",
            "simulator.job",
            *("live", *self._world_options(), "--skip", str(world.live_seconds * world.played)),
            *("--seconds", str(world.live_seconds), "--api-share", str(API_SHARE)),
            *("--api-url", f"http://{self.settings.api.host}:{self.settings.api.port}", "--api-key-file", str(key)),
            *("--results", str(world.live_results), "--truth", str(world.truth), "--manifest", str(world.manifest)),
        ):
            if not is_changed:
                self.change()
            if is_approved:
                self.steps.run("the challenger into force", "training.promote", "run", *self._challenger())
        if is_approved:
            self.steps.run("and back", "training.promote", "rollback", "--reason", "the demo", *self._begun())
        with self.steps.timed("alerts delivered, customers answer"):
            told = Customers(world, self.settings, self.steps.say).settle()
        self.steps.request("live payments and decisions into the lake", self.lake, jobs.ALL_DONE)
        return told

    def change(self) -> None:
        """Merchants onto the watch list, and a rule that challenges whoever pays them, while payments flow."""
        world = self.world
        add = ("lists", "add", "--list", "watch", "--kind", "merchant", "--file", str(world.watched))
        reason = ("--reason", "the largest share of payments reported as fraud")
        self.steps.run("merchants onto the watch list", "decisions.control", *add, *reason, *self._begun())
        world.rules.write_text(watching.with_rule(self._shipped_rules().read_text()))
        self.steps.run(
            "a rule that challenges them", "decisions.control", "rules", "activate", str(world.rules), *self._begun()
        )

    def challenge(self) -> bool:
        """A challenger into shadow before payments flow, and judged on history; whether it is approved."""
        self.steps.run("a challenger into shadow", "training.promote", "shadow", *self._challenger())
        try:
            self.steps.run(
                "approved on evidence", "training.promote", "approve", *self._challenger(), "--on", "history"
            )
        except FraudlakeError:
            self.steps.say("not approved: the first champion stays")
            return False
        return True

    def _challenger(self) -> tuple[str, ...]:
        return "--digest", self.world.challenger.read_text(), *self._begun()

    def _begun(self) -> tuple[str, str]:
        """That something was received when the live parts begin, in the world's time.

        A record that is received today would move the engine's clock past them.
        """
        moment = datetime.fromtimestamp(measuring.history_end_ms(self.world) / 1000, UTC)
        return "--received-at", moment.isoformat()

    @staticmethod
    def _shipped_rules() -> Path:
        return conf.home() / "conf" / "rules.json"

    def audit(self) -> dict[str, Any]:
        """What the auditor says of topics and tables; the demo fails when it finds something."""
        path = self.world.folder / "audit.json"
        self.steps.run("audit: topics and tables compared by readers of their own", "audit", "--out", str(path))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def addresses(self) -> dict[str, str]:
        """Where to look next."""
        return {
            "API": f"http://{self.settings.api.host}:{self.settings.api.port}/docs",
            **services.addresses(self.settings),
            "lake": str(self.settings.lake.root),
        }

    def report(self, told: Told | None) -> None:
        """Measure, print, write .fraudlake/demo.json."""
        audit = self.audit()
        found = measuring.report(self.world, self.settings, self.tables, self.steps, self.addresses(), audit, told)
        path = plan.state_folder() / "demo.json"
        path.write_text(json.dumps(found, indent=1))
        tables.show(found, Console())
        self.steps.say(f"done; the same as JSON: {path}, all output: {self.world.log}")


def run(world: Plan, go_on: bool, added: Sequence[str]) -> None:
    """The whole demo; Ctrl-C ends everything that it started, a failure all but the services."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings, steps = conf.load("local"), Steps(world.log)
    try:
        demo = Demo(world, settings, steps)
        steps.say(f"world {world.run_id}, seed {world.seed}")
        services.down(settings, services.OWN_PROCESSES)
        services.up(settings, services.wanted(settings, added))
        keys.provide(settings)
        topics.ensure(settings)
        if not go_on:
            steps.run(
                "reference tables into force",
                "decisions.control",
                *("activate", "--scope", "reference", "--file", str(conf.home() / "conf" / "reference.json")),
                *("--received-at", world.before.isoformat()),
            )
            demo.history()
            demo.model()
        told = None
        if not world.data:
            demo.serve()
            told = demo.live()
        steps.end(demo.lake)
        demo.report(told)
    except KeyboardInterrupt:
        steps.say("stopping everything")
        services.down(settings)
        raise
    finally:
        steps.stop()


def main(argv: Sequence[str]) -> int:
    """Run the demo; exit code 0 when everything it promises holds."""
    arguments = plan.parse(argv)

    def work() -> None:
        world = plan.last() if arguments.go_on else plan.new(arguments)
        if not arguments.go_on:
            world.begin()
        run(world, arguments.go_on, arguments.added)

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
