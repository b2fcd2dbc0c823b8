"""Where the engine's time goes, by stage."""

import time


class Stages:
    """Seconds by stage since the start: `done(name)` books the time since the last call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def begin(self) -> None:
        """Do not book what came before."""
        self._last = time.perf_counter()

    def done(self, name: str) -> None:
        """Book the time since the last call to a stage."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
