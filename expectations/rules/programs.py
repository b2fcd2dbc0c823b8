"""Rules as one program for a small stack machine, run over a batch of payments by one compiled kernel.

Everything is a double: NULL is NaN, a condition is 0 or 1, a text the number that its bytes were given in this batch.
So SQL's three-valued logic is arithmetic, a rule set is data, and nothing is compiled when one comes into force. A
payment alone and one among thousands take the same operations.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numba import njit

from expectations.rules.tree import COLUMN, LITERAL, Node, Type

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Texts = Sequence[bytes | None]

BLOCK = 256
"""Rows that are worked on together: their stack stays in the processor's nearest cache."""


class Op(IntEnum):
    """What the machine can do."""

    CONSTANT = 0
    COLUMN = 1
    LOOKUP = 2
    NOT = 3
    IS_NULL = 4
    IN = 5
    NEGATIVE = 6
    ABS = 7
    AND = 8
    OR = 9
    EQ = 10
    NE = 11
    LT = 12
    LE = 13
    GT = 14
    GE = 15
    ADD = 16
    SUBTRACT = 17
    MULTIPLY = 18
    DIVIDE = 19
    REMAINDER = 20
    LEAST = 21
    GREATEST = 22
    COALESCE = 23
    NULLIF = 24
    CHOOSE = 25


_BINARY = {
    "and": Op.AND,
    "or": Op.OR,
    "=": Op.EQ,
    "<>": Op.NE,
    "<": Op.LT,
    "<=": Op.LE,
    ">": Op.GT,
    ">=": Op.GE,
    "+": Op.ADD,
    "-": Op.SUBTRACT,
    "*": Op.MULTIPLY,
    "/": Op.DIVIDE,
    "%": Op.REMAINDER,
    "least": Op.LEAST,
    "greatest": Op.GREATEST,
    "coalesce": Op.COALESCE,
    "nullif": Op.NULLIF,
}
"""Kinds that take their children two by two, from the left."""
_UNARY = {"not": Op.NOT, "is_null": Op.IS_NULL, "negative": Op.NEGATIVE, "abs": Op.ABS}


@njit(cache=True)
def _run(
    code: Ints, first: Ints, constants: Doubles, columns: Doubles, lookups: Doubles, stack: Doubles, out: Flags
) -> None:
    n = out.shape[1]
    for begin in range(0, n, stack.shape[1]):
        m = min(stack.shape[1], n - begin)
        for rule in range(out.shape[0]):
            top = -1
            for at in range(first[rule], first[rule + 1]):
                op, arg, count = code[at, 0], code[at, 1], code[at, 2]
                if op <= 1:
                    top += 1
                    if op == 0:
                        stack[top, :m] = constants[arg]
                    else:
                        stack[top, :m] = columns[arg, begin : begin + m]
                    continue
                if op <= 7:
                    a = stack[top]
                    if op == 2:
                        for j in range(m):
                            a[j] = lookups[arg, int(a[j])] if a[j] == a[j] else np.nan
                    elif op == 3:
                        for j in range(m):
                            a[j] = 1.0 - a[j]
                    elif op == 4:
                        for j in range(m):
                            a[j] = 1.0 if a[j] != a[j] else 0.0
                    elif op == 5:
                        for j in range(m):
                            if a[j] == a[j]:
                                found = 0.0
                                for k in range(arg, arg + count):
                                    if a[j] == constants[k]:
                                        found = 1.0
                                a[j] = found
                    elif op == 6:
                        for j in range(m):
                            a[j] = -a[j]
                    else:
                        for j in range(m):
                            a[j] = abs(a[j])
                    continue
                if op == 25:
                    # Below: what holds otherwise, the condition, what holds if it is true.
                    top -= 2
                    for j in range(m):
                        if stack[top + 1, j] == 1.0:
                            stack[top, j] = stack[top + 2, j]
                    continue
                top -= 1
                a, b = stack[top], stack[top + 1]
                if op == 8:
                    for j in range(m):
                        a[j] = 0.0 if a[j] == 0.0 or b[j] == 0.0 else a[j] * b[j]
                elif op == 9:
                    for j in range(m):
                        a[j] = 1.0 if a[j] == 1.0 or b[j] == 1.0 else a[j] + b[j]
                elif op <= 15:
                    for j in range(m):
                        x, y = a[j], b[j]
                        if x != x or y != y:
                            a[j] = np.nan
                        elif op == 10:
                            a[j] = 1.0 if x == y else 0.0
                        elif op == 11:
                            a[j] = 1.0 if x != y else 0.0
                        elif op == 12:
                            a[j] = 1.0 if x < y else 0.0
                        elif op == 13:
                            a[j] = 1.0 if x <= y else 0.0
                        elif op == 14:
                            a[j] = 1.0 if x > y else 0.0
                        else:
                            a[j] = 1.0 if x >= y else 0.0
                elif op == 16:
                    for j in range(m):
                        a[j] = a[j] + b[j]
                elif op == 17:
                    for j in range(m):
                        a[j] = a[j] - b[j]
                elif op == 18:
                    for j in range(m):
                        a[j] = a[j] * b[j]
                elif op == 19:
                    for j in range(m):
                        a[j] = a[j] / b[j] if b[j] != 0.0 else np.nan
                elif op == 20:
                    for j in range(m):
                        a[j] = np.fmod(a[j], b[j]) if b[j] != 0.0 else np.nan
                elif op == 21:
                    for j in range(m):
                        if a[j] != a[j] or b[j] < a[j]:
                            a[j] = b[j]
                elif op == 22:
                    for j in range(m):
                        if a[j] != a[j] or b[j] > a[j]:
                            a[j] = b[j]
                elif op == 23:
                    for j in range(m):
                        if a[j] != a[j]:
                            a[j] = b[j]
                elif op == 24:
                    for j in range(m):
                        if a[j] == b[j]:
                            a[j] = np.nan
            for j in range(m):
                out[rule, begin + j] = stack[0, j] == 1.0


def _pattern(like: str) -> Callable[[bytes], float]:
    """1 for texts that a pattern of LIKE takes whole, else 0.

    Part by part between the %, each at its first place: what follows then has the most room. As one regular expression
    it would take a power of the text's length, and whoever pays can write a long one.
    """
    first, *more = (
        re.compile("".join("." if c == "_" else re.escape(c) for c in part), re.DOTALL) for part in like.split("%")
    )
    ending = len(like) - like.rfind("%") - 1

    def taken(raw: bytes) -> float:
        text = raw.decode()
        if not more:
            return float(first.fullmatch(text) is not None)
        found = first.match(text)
        for part in more[:-1]:
            found = found and part.search(text, found.end())
        end = len(text) - ending
        return float(found is not None and found.end() <= end and more[-1].match(text, end) is not None)

    return taken


def _characters(raw: bytes) -> float:
    return float(len(raw.decode()))


@dataclass(frozen=True)
class Program:
    """Some rules, ready to run."""

    code: Ints
    """(n, 3): operation, its argument, and of IN the number of literals."""
    first: Ints
    constants: Doubles
    numbers: tuple[str, ...]
    """Columns that are numbers or conditions, in the order of their place."""
    texts: tuple[str, ...]
    """Columns that are texts; their places follow."""
    known: Mapping[bytes, int]
    """The number of every literal text."""
    lookups: tuple[Callable[[bytes], float], ...]
    depth: int

    @property
    def rules(self) -> int:
        """How many rules it holds."""
        return len(self.first) - 1

    @cached_property
    def _stack(self) -> Doubles:
        return np.empty((self.depth, BLOCK))

    def fired(self, numbers: Doubles, texts: Sequence[Texts], n: int) -> Flags:
        """(rules, n): where each rule is TRUE; columns in the order of `numbers` and `texts`, NaN and None for NULL."""
        columns, codes = numbers, self.known
        if self.texts:
            columns = np.empty((len(self.numbers) + len(self.texts), n))
            columns[: len(self.numbers)] = numbers
            codes = dict(self.known)
            for at, column in enumerate(texts, len(self.numbers)):
                columns[at] = [np.nan if raw is None else codes.setdefault(raw, len(codes)) for raw in column]
        tables = np.empty((len(self.lookups), len(codes)))
        for at, table in enumerate(self.lookups):
            tables[at] = [table(raw) for raw in codes]
        out = np.zeros((self.rules, n), np.bool_)
        if n:
            _run(self.code, self.first, self.constants, columns, tables, self._stack, out)
        return out


class _Writer:
    """Collects what a program is made of."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        found = {str(part.value): part.type for node in nodes for part in node.walk() if part.kind == COLUMN}
        self.numbers = tuple(sorted(name for name, type_ in found.items() if type_ is not Type.TEXT))
        self.texts = tuple(sorted(name for name, type_ in found.items() if type_ is Type.TEXT))
        self._place = {name: at for at, name in enumerate((*self.numbers, *self.texts))}
        self.code: list[tuple[int, int, int]] = []
        self.constants: list[float] = []
        self.known: dict[bytes, int] = {}
        self.lookups: list[Callable[[bytes], float]] = []
        self.depth = 0

    def _number_of(self, value: object) -> float:
        if isinstance(value, str):
            return float(self.known.setdefault(value.encode(), len(self.known)))
        return float(value)  # type: ignore[arg-type]

    def _constants(self, values: Sequence[object]) -> int:
        self.constants += [self._number_of(value) for value in values]
        return len(self.constants) - len(values)

    def _lookup(self, table: Callable[[bytes], float]) -> None:
        self.lookups.append(table)
        self.code.append((Op.LOOKUP, len(self.lookups) - 1, 0))

    def write(self, node: Node, depth: int = 0) -> None:
        """Append what leaves the node's value on the stack, of which `depth` places are taken."""
        self.depth = max(self.depth, depth + 1)
        kind, children = node.kind, node.children
        if kind == LITERAL:
            self.code.append((Op.CONSTANT, self._constants([node.value]), 0))
        elif kind == COLUMN:
            self.code.append((Op.COLUMN, self._place[str(node.value)], 0))
        elif kind == "between":
            value, low, high = children
            sides = (Node(">=", Type.CONDITION, (value, low)), Node("<=", Type.CONDITION, (value, high)))
            self.write(Node("and", Type.CONDITION, sides), depth)
        elif kind == "case":
            self._case(children, depth)
        else:
            self.write(children[0], depth)
            if kind == "in":
                self.code.append((Op.IN, self._constants([c.value for c in children[1:]]), len(children) - 1))
            elif kind == "like":
                self._lookup(_pattern(str(node.value)))
            elif kind == "length":
                self._lookup(_characters)
            elif kind in _UNARY:
                self.code.append((_UNARY[kind], 0, 0))
            else:
                for child in children[1:]:
                    self.write(child, depth + 1)
                    self.code.append((_BINARY[kind], 0, 0))

    def _case(self, parts: Sequence[Node], depth: int) -> None:
        branches = list(zip(parts[0::2], parts[1::2], strict=False))
        if len(parts) % 2:
            self.write(parts[-1], depth)
        else:
            self.code.append((Op.CONSTANT, self._constants([np.nan]), 0))
        for condition, value in reversed(branches):
            self.write(condition, depth + 1)
            self.write(value, depth + 2)
            self.code.append((Op.CHOOSE, 0, 0))


def program(nodes: Sequence[Node]) -> Program:
    """The program of some conditions, in their order."""
    writer, first = _Writer(nodes), [0]
    for node in nodes:
        writer.write(node)
        first.append(len(writer.code))
    return Program(
        np.array(writer.code, np.int64).reshape(-1, 3),
        np.array(first, np.int64),
        np.array(writer.constants, np.float64),
        writer.numbers,
        writer.texts,
        writer.known,
        tuple(writer.lookups),
        max(writer.depth, 1),
    )
