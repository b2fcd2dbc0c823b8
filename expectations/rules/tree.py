"""A rule as a typed tree: a closed list of kinds, each with a type; what parsing gives and everything else reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Type(Enum):
    """What a node is."""

    NUMBER = "a number"
    TEXT = "a text"
    CONDITION = "a condition"


LITERAL, COLUMN = "literal", "column"
EQUALITIES = ("=", "<>")
COMPARISONS = (*EQUALITIES, "<", "<=", ">", ">=")
ARITHMETIC = ("+", "-", "*", "/", "%")
FUNCTIONS = ("abs", "least", "greatest", "coalesce", "nullif", "length")
KINDS = (
    *(LITERAL, COLUMN, "and", "or", "not", "is_null", "in", "between", "like", "case", "negative"),
    *COMPARISONS,
    *ARITHMETIC,
    *FUNCTIONS,
)
"""`case` has condition, value, condition, value, ... and, where their number is odd, the value of ELSE."""


@dataclass(frozen=True)
class Node:
    """One node; `value` is a literal's value, a column's name or the pattern of LIKE."""

    kind: str
    type: Type
    children: tuple["Node", ...] = ()
    value: float | str | bool | None = None

    def walk(self) -> Iterator["Node"]:
        """The node and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it reads, sorted."""
        return tuple(sorted({str(node.value) for node in self.walk() if node.kind == COLUMN}))
