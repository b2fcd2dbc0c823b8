"""Table contracts: every table declared once, as frozen values; schema, suite, predicates and reference derive from it.

A row rule says what must hold of one row. The list of rule types is closed: each has a Great Expectations expectation
and through it a Spark predicate (expectations/suites.py), and a numpy predicate for the engine (expectations/rows.py).
A rule passes where its column is null, except `Required`; NaN counts as null everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PersonalData = Literal["none", "token", "sealed"]
SparkType = Literal[
    "string",
    "boolean",
    "int",
    "bigint",
    "double",
    "binary",
    "date",
    "timestamp",
    "array<string>",
    "array<float>",
    "float",
]


@dataclass(frozen=True)
class Column:
    """One column: its Spark type, whether it may be null, what it means (unit included), what of a person it holds."""

    name: str
    type: SparkType
    meaning: str
    nullable: bool = False
    personal: PersonalData = "none"


@dataclass(frozen=True)
class Required:
    """The column has a value."""

    name: str
    column: str


@dataclass(frozen=True)
class Between:
    """low <= value <= high."""

    name: str
    column: str
    low: float
    high: float


@dataclass(frozen=True)
class OneOf:
    """The text is one of a closed list."""

    name: str
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Digits:
    """The text is `length` ASCII digits."""

    name: str
    column: str
    length: int


@dataclass(frozen=True)
class Length:
    """The text has between `low` and `high` characters."""

    name: str
    column: str
    low: int
    high: int


@dataclass(frozen=True)
class Holds:
    """The boolean is true."""

    name: str
    column: str


Rule = Required | Between | OneOf | Digits | Length | Holds


@dataclass(frozen=True)
class Table:
    """A table: `name` is layer.table, `grain` says what one row is, `key` identifies a row."""

    name: str
    meaning: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    event_time: str | None = None
    rules: tuple[Rule, ...] = ()
    partition_by: tuple[str, ...] = ()
    position: tuple[str, str, str] | None = ("topic_id", "partition", "offset")
    """The columns that hold the source position of a row, for tables that are appended by position."""

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        assert len(set(names)) == len(names), f"{self.name}: a column twice"
        referred = {*self.key, *self.partition_by, *(r.column for r in self.rules), *(self.position or ())}
        assert referred <= set(names), f"{self.name}: unknown columns {referred - set(names)}"

    @property
    def ddl(self) -> str:
        """The Spark schema, as DDL."""
        return ", ".join(f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(c.name for c in self.columns)

    def path(self, root: str) -> str:
        """Where the table lies under a lake root."""
        return f"{root.rstrip('/')}/{self.name.replace('.', '/')}"


POSITION = (
    Column("topic_id", "string", "the broker's id of the source topic"),
    Column("partition", "int", "source partition"),
    Column("offset", "bigint", "source offset: the sequence of the log"),
)


def named(tables: Iterable[Table]) -> dict[str, Table]:
    """Tables by name; every name once."""
    out: dict[str, Table] = {}
    for table in tables:
        assert table.name not in out, f"{table.name} is declared twice"
        out[table.name] = table
    return out
