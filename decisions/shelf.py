"""Models that are ready, by digest: whoever stages one puts it here, the engine takes it at a batch boundary."""

import threading
from pathlib import Path

from decisions import bundle
from decisions.bundle import Model
from lakehouse.settings import Settings, resolve
from lakehouse.signing import Trust, trust

KEPT = 4
"""At most so many whole models stay in memory: those in force, in a split, in shadow and just replaced, and the newest
others, one of them at least."""


class Shelf:
    """Loads models of a store and keeps the whole ones; safe to be used by two threads."""

    def __init__(self, store: Path, trusted: Trust) -> None:
        self._store, self._trusted = store, trusted
        self._held: dict[str, Model] = {}
        self._changing = threading.Lock()

    @staticmethod
    def of(settings: Settings) -> "Shelf":
        """The shelf over the store of the settings."""
        return Shelf(resolve(settings.models.store), trust(resolve(settings.keys.folder)))

    def held(self, digest: str) -> Model | None:
        """A whole model that was loaded before."""
        return self._held.get(digest)

    def loaded(self, digest: str, whole: bool = True) -> Model:
        """A model, verified and tested now, which loads and warms everything that scoring needs; BundleRefused.

        With `whole` false it may lack its anomaly model, and then it is not kept.
        """
        model = bundle.load(self._store, digest, self._trusted, whole)
        if model.isolation is not None:
            with self._changing:
                self._held = {**self._held, digest: model}
        return model

    def keep(self, *digests: str | None) -> None:
        """Let go of the oldest models, but not of these."""
        with self._changing:
            kept = [one for one in self._held if one in digests]
            others = [one for one in self._held if one not in digests][-max(1, KEPT - len(kept)) :]
            self._held = {one: self._held[one] for one in self._held if one in kept or one in others}
