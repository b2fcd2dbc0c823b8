"""What decides payments of the past: what was in force at each, and a policy in which some of it is another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from decisions.accepted import Accepted
from decisions.bundle import Model
from decisions.exploration import explored
from decisions.past import Stretch
from decisions.shelf import Shelf
from decisions.stages import Stages
from decisions.verdicts import Scored, Verdicts, judged, scored
from expectations.control import InForce
from expectations.rules.rule_set import RuleSet
from lakehouse.crypto import Mac
from lakehouse.errors import BundleRefused
from lakehouse.settings import Ladder


@dataclass(frozen=True)
class Changes:
    """What is another than it was; None where nothing is."""

    rules: RuleSet | None = None
    model: Model | None = None
    cuts: Mapping[str, float] | None = None

    @property
    def nothing(self) -> bool:
        """Whether all is as it was."""
        return self.rules is None and self.model is None and self.cuts is None

    @staticmethod
    def to(now: InForce, shelf: Shelf) -> "Changes":
        """What makes rules, model and thresholds of any time those that are in force now."""
        model = None if now.model_digest is None else shelf.loaded(now.model_digest)
        return Changes(now.rules, model, now.cuts)

    def over(self, base: "Changes") -> "Changes":
        """These, and of others what these leave as it was."""
        return Changes(
            base.rules if self.rules is None else self.rules,
            base.model if self.model is None else self.model,
            base.cuts if self.cuts is None else self.cuts,
        )

    def applied(self, in_force: InForce) -> InForce:
        """What is in force with the changes, beside the model."""
        return replace(
            in_force,
            rules=in_force.rules if self.rules is None else self.rules,
            cuts=in_force.cuts if self.cuts is None else self.cuts,
        )


@dataclass(frozen=True)
class Judge:
    """Decides by the engine's own code, every payment on the highest rung that the model in force allows."""

    shelf: Shelf
    ladder: Ladder
    draws: Mac
    original: Changes
    """Against what was in force at each payment; nothing where that is the original."""
    changes: Changes
    """Against the original."""
    stages: Stages

    def both(self, stretch: Stretch) -> tuple[Verdicts, Verdicts]:
        """(by the original, with the changes); one and the same where nothing is changed."""
        was = self.original.model or self._model(stretch.in_force.model_digest)
        reached = self._scored(was, stretch.payments)
        before = self._judged(stretch, reached, self.original.applied(stretch.in_force))
        if self.changes.nothing:
            return before, before
        changed = self.changes.over(self.original)
        model = changed.model or was
        if model is not was:
            reached = self._scored(model, stretch.payments)
        return before, self._judged(stretch, reached, changed.applied(stretch.in_force))

    def _scored(self, model: Model | None, payments: Accepted) -> Scored:
        found = scored(model, payments.vectors, np.zeros(len(payments.rows), np.int64))
        self.stages.done("models")
        return found

    def _judged(self, stretch: Stretch, reached: Scored, in_force: InForce) -> Verdicts:
        found = judged(stretch.payments, reached, in_force, stretch.tokens, self.ladder)
        found = explored(found, stretch.payments, in_force.exploration, self.draws)
        self.stages.done("rules")
        return found

    def _model(self, digest: str | None) -> Model | None:
        if digest is None:
            return None
        held = self.shelf.held(digest)
        if held is not None:
            return held
        self.shelf.keep(digest)
        try:
            return self.shelf.loaded(digest)
        except BundleRefused as error:
            what = f"The model that was in force cannot be had. {error.what}"
            raise BundleRefused(what, "Choose a --start behind its time.") from None
