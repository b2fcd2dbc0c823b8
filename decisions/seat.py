"""The model that decides one arm: taken from the shelf when its digest comes into force, or loaded once."""

from decisions.bundle import Model
from decisions.ladder import WHOLE
from decisions.shelf import Shelf
from decisions.verdicts import best_rung
from lakehouse.errors import BundleRefused


class Seat:
    """Holds what is there of the model of a digest, whole, without its anomaly model, or nothing."""

    def __init__(self, shelf: Shelf, faults: list[str], ends: bool) -> None:
        self._shelf, self._faults = shelf, faults
        self._ends = ends
        """Whether a refused model ends the engine; else its payments go down the ladder, and `faults` says why."""
        self._digest: str | None = None
        self._refused = ""
        """Digest of what was refused or is not whole: no reason to load it at every batch."""
        self.model: Model | None = None

    @property
    def wanted(self) -> str | None:
        """The digest, where the whole model is not here."""
        return self._digest if best_rung(self.model) != WHOLE else None

    def take(self, digest: str | None, load: bool) -> str | None:
        """Seat what came into force, loaded where it is not at hand and `load` says so; the digest that it replaced.

        None where nothing changed. A replay loads what a decision needs.
        """
        self._digest = digest
        if digest is None:
            self.model, self._refused = None, ""
        elif self.model is None or self.model.digest != digest or self.model.lacks:
            held = self._shelf.held(digest)
            if held is not None:
                replaced = digest if self.model is None else self.model.digest
                self.model, self._refused = held, ""
                return replaced
            if load and self._refused != digest:
                self._load(digest)
        return None

    def _load(self, digest: str) -> None:
        self.model, self._refused = None, ""
        try:
            self.model = self._shelf.loaded(digest, whole=False)
        except BundleRefused as error:
            self._refused = digest
            if self._ends:
                raise
            self._faults.append(str(error))
        else:
            if self.model.lacks:
                self._refused = digest
                self._faults.append(self.model.lacks)

    def need(self, rung: int) -> None:
        """Have what decisions of a rung were made with; BundleRefused where that is no longer to be had."""
        if self.model is not None and self.model.digest != self._digest:
            self.model = None
        if self._digest is not None and rung < best_rung(self.model):
            self.model = self._shelf.loaded(self._digest, whole=rung == WHOLE)
