"""What an audit counts and finds, hop by hop."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from audit import digests
from audit.digests import Digests, Ints
from audit.tables import Source
from audit.witnesses import WHAT, Wrong

EXAMPLES = 10
_WRAP = 1 << 64
_NONE = np.zeros(0, np.int64)


@dataclass
class Line:
    """One table in a hop: its rows, the sum of their amounts, and digests of them without and with their positions."""

    table: str
    rows: int = 0
    amount: int | None = None
    content: int = 0
    bound: int = 0
    behind: int = 0
    """Positions that the source of the hop has beyond what the table says it holds."""
    written_off: int = 0
    """Positions that it lacks and whose loss was accepted (lake.write_offs)."""

    def add(self, offsets: Ints, digest: Digests, amount: Ints | None = None) -> None:
        """Count some rows."""
        self.rows += len(offsets)
        self.content = (self.content + int(digests.mixed(digest).sum(dtype=np.uint64))) % _WRAP
        self.bound = (self.bound + int(digests.bound(digest, offsets).sum(dtype=np.uint64))) % _WRAP
        if amount is not None:
            self.amount = (self.amount or 0) + int(amount.sum())


@dataclass
class Finding:
    """Rows of a table of which the same is wrong, in one partition."""

    hop: str
    what: str
    table: str
    fact: str
    against: str
    undecided: bool
    source: Source
    rows: int = 0
    first: int = 0
    end: int = 0
    examples: list[dict[str, int]] = field(default_factory=list)
    repair: str = ""

    def add(self, wrong: Wrong) -> None:
        """Take in more rows."""
        low, high = int(wrong.offset.min()), int(wrong.offset.max()) + 1
        if wrong.to is not None:
            low, high = min(low, int(wrong.to.min())), max(high, int(wrong.to.max()) + 1)
        high = max(high, wrong.until or 0)
        self.first, self.end = (min(self.first, low), max(self.end, high)) if self.rows else (low, high)
        self.rows += len(wrong.offset)
        order = np.argsort(wrong.offset)[: EXAMPLES - len(self.examples)]
        for row in order.tolist():
            example = {"offset": int(wrong.offset[row])}
            if wrong.to is not None:
                example["now_at"] = int(wrong.to[row])
            self.examples.append(example)

    @property
    def text(self) -> str:
        """One sentence."""
        places = ", ".join(
            f"{e['offset']} (now at {e['now_at']})" if "now_at" in e else str(e["offset"]) for e in self.examples
        )
        more = f" and {self.rows - len(self.examples):,} more" if self.rows > len(self.examples) else ""
        fact = "" if self.fact == "rows" else f" in {self.fact}"
        beside = f", or {self.against}: nobody else can tell" if self.undecided else f", by {self.against}"
        return (
            f"{self.table}: {self.rows:,} {self.what}{fact}{beside}; partition {self.source.partition} of topic id "
            f"{self.source.topic_id}, offsets {places}{more}"
        )


@dataclass
class Hop:
    """What one hop was found to be."""

    name: str
    lines: dict[str, Line] = field(default_factory=dict)
    findings: dict[tuple[object, ...], Finding] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _seen: list[tuple[str, Ints]] = field(default_factory=list)

    def line(self, table: str) -> Line:
        """The line of a table."""
        return self.lines.setdefault(table, Line(table))

    def found(self, source: Source, wrong: Iterable[Wrong]) -> None:
        """Take in what is wrong."""
        for one in wrong:
            self._seen += [(one.fact, offsets) for offsets in (one.offset, one.to) if offsets is not None]
            key = (one.what, one.table, one.fact, one.against, one.undecided, source)
            new = Finding(self.name, one.what, one.table, one.fact, one.against, one.undecided, source)
            self.findings.setdefault(key, new).add(one)
            self.line(one.table)

    def withdraw(self, fact: str, why: str) -> None:
        """Take back what was found in a fact, because something else explains it."""
        kept = {key: finding for key, finding in self.findings.items() if finding.fact != fact}
        if len(kept) < len(self.findings):
            self.findings = kept
            self.note(why)

    def positions(self, fact: str | None = None) -> Ints:
        """Positions at which something was found, in one fact or in any; ascending."""
        return np.unique(np.concatenate([_NONE, *(offsets for name, offsets in self._seen if fact in (None, name))]))

    def note(self, text: str) -> None:
        """Say once what was not compared."""
        if text not in self.notes:
            self.notes.append(text)

    def count(self, table: str, what: str) -> int:
        """How many rows of a table are wrong in one way; a row that is in several facts counts in each."""
        assert what in WHAT
        return sum(f.rows for f in self.findings.values() if f.table == table and f.what == what)
