"""Progress on standard error: a line every two seconds while something takes longer than that."""

import sys
import time

EVERY_S = 2.0


class Progress:
    """Says which hop and how far, at most every two seconds."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self.doing = ""
        self.records = 0

    def at(self, doing: str) -> None:
        """What is being done from now on."""
        self.doing = doing
        self.more(0)

    def more(self, records: int) -> None:
        """So many more records were read."""
        self.records += records
        now = time.monotonic()
        if now - self._said >= EVERY_S:
            self._said = now
            print(f"[{now - self._began:4.0f} s] {self.doing}: {self.records:,} records", file=sys.stderr, flush=True)
