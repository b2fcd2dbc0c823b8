"""The typed tree of a rule's text; RuleRefused says why there is none, with line and column.

sqlglot reads SQL; only the kinds of `tree.py` are taken over from what it finds, and each must have the right types.
"""

import difflib
import math
from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp

from expectations.rules.tree import COLUMN, LITERAL, Node, Type
from expectations.rules.vocabulary import AMBIGUOUS, COLUMNS
from lakehouse.errors import RuleRefused

MAX_CHARACTERS = 4_000
MAX_NODES = 400
MAX_DEPTH = 40
"""Far beyond what people write, and small enough for every engine."""
LIST_LENGTH = 200
"""Literals in one IN; longer ones belong into a list."""

_ARITHMETIC: Mapping[type[exp.Expression], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}
_EQUALITY: Mapping[type[exp.Expression], str] = {exp.EQ: "=", exp.NEQ: "<>"}
_ORDER: Mapping[type[exp.Expression], str] = {exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_JUNCTION: Mapping[type[exp.Expression], str] = {exp.And: "and", exp.Or: "or"}
_FUNCTIONS: Mapping[type[exp.Expression], str] = {
    exp.Abs: "abs",
    exp.Least: "least",
    exp.Greatest: "greatest",
    exp.Coalesce: "coalesce",
    exp.Nullif: "nullif",
    exp.Length: "length",
}
_ARGUMENTS = ("this", "expression", "expressions", "low", "high", "ifs", "default", "true", "table", "db", "catalog")
"""Where sqlglot keeps what a node of ours may have below it."""
_CHAINS = (*_ARITHMETIC, *_JUNCTION)


def parsed(text: str, columns: Mapping[str, Type] = COLUMNS) -> Node:
    """The condition that a text says, over columns of these types."""
    if len(text) > MAX_CHARACTERS:
        raise RuleRefused(f"The rule has {len(text):,} characters; {MAX_CHARACTERS:,} are allowed.")
    if any((ord(c) < 32 and c not in "\n\r\t") or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise RuleRefused("The rule has a character that no keyboard writes.", "Type it again.")
    node = _Reader(text, columns).condition(_read(text))
    count = sum(1 for _ in node.walk())
    if count > MAX_NODES:
        raise RuleRefused(f"The rule has {count} parts; {MAX_NODES} are allowed.", "Make two rules of it.")
    return node


def position(text: str, at: int) -> str:
    """Line and column of a character, as people count."""
    before = text[:at]
    return f"line {before.count(chr(10)) + 1}, column {at - before.rfind(chr(10))}"


def _read(text: str) -> exp.Expression:
    try:
        return sqlglot.parse_one(text, error_message_context=MAX_CHARACTERS)
    except sqlglot.ParseError as error:
        found = error.errors[0] if error.errors else {}
        at = len(str(found.get("start_context") or ""))
        near = f" near '{found['highlight']}'" if found.get("highlight") else ""
        raise RuleRefused(f"At {position(text, at)}: this is not a SQL expression{near}.") from None
    except sqlglot.TokenError:
        quote = max(text.rfind("'"), text.rfind('"'), text.rfind("/*"), 0)
        raise RuleRefused(f"At {position(text, quote)}: a quote or comment is not closed.") from None
    except RecursionError:
        raise RuleRefused("The rule is nested too deeply.", "Make two rules of it.") from None


class _Reader:
    """Takes one text's tree over, node by node."""

    def __init__(self, text: str, columns: Mapping[str, Type]) -> None:
        self._text, self._columns, self._depth, self._seen = text, columns, 0, 0

    def _refused(self, found: exp.Expression, why: str, do: str = "") -> RuleRefused:
        return RuleRefused(f"At {position(self._text, self._start(found))}: {why}.", do)

    def _start(self, found: exp.Expression) -> int:
        """The first character; sqlglot forgets it for words that take no arguments, which are looked for."""
        starts: list[int] = [one.meta["start"] for one in found.walk() if "start" in one.meta]
        if starts:
            return min(starts)
        return max(self._text.lower().find(_called(found).lower(), self._seen), self._seen)

    def condition(self, found: exp.Expression) -> Node:
        """The node, which must be a condition."""
        node = self.node(found)
        if node.type is not Type.CONDITION:
            do = f"Compare it with something, as in {node.value} = 1." if node.kind == COLUMN else ""
            raise self._refused(found, f"a condition is needed, and this is {node.type.value}", do)
        return node

    def _typed(self, found: exp.Expression, *types: Type) -> Node:
        node = self.node(found)
        if node.type not in types:
            wanted = " or ".join(t.value for t in types)
            raise self._refused(found, f"{wanted} is needed, and this is {node.type.value}")
        return node

    def _number(self, found: exp.Expression) -> Node:
        return self._typed(found, Type.NUMBER)

    def _alike(self, *found: exp.Expression) -> list[Node]:
        """The nodes, which must be of one type."""
        nodes = [self.node(one) for one in found]
        for one, node in zip(found, nodes, strict=True):
            if node.type is not nodes[0].type:
                raise self._refused(one, f"this is {node.type.value}, and what stands beside it {nodes[0].type.value}")
        return nodes

    def node(self, found: exp.Expression) -> Node:
        """What one expression says."""
        reader = _READERS.get(type(found))
        if reader is None:
            raise self._refused(found, f"{_called(found)} has no place in a rule")
        for name, argument in found.args.items():
            if name not in _ARGUMENTS and isinstance(argument, (exp.Expression, list)) and argument:
                raise self._refused(found, f"{_called(found)} has an argument too many")
        self._depth += 1
        self._seen = max(self._seen, found.meta.get("start", 0))
        if self._depth > MAX_DEPTH:
            raise self._refused(found, f"the rule is nested more than {MAX_DEPTH} deep", "Make two rules of it.")
        node = reader(self, found)
        self._depth -= 1
        return node

    def column(self, found: exp.Expression) -> Node:
        if len(found.parts) > 1 or not isinstance(found.this, exp.Identifier):
            raise self._refused(found, "a column is one name")
        name = found.this.name if found.this.quoted else found.this.name.lower()
        if name in AMBIGUOUS:
            raise self._refused(found, f"{name} could mean two things", AMBIGUOUS[name])
        if name not in self._columns:
            near = difflib.get_close_matches(name, self._columns, 1)
            raise self._refused(found, f"there is no column {name[:64]}", f"Did you mean {near[0]}?" if near else "")
        return Node(COLUMN, self._columns[name], value=name)

    def literal(self, found: exp.Expression) -> Node:
        if found.is_string:
            return Node(LITERAL, Type.TEXT, value=str(found.this))
        value = float(found.this)
        if not math.isfinite(value):
            raise self._refused(found, "the number is too large")
        return Node(LITERAL, Type.NUMBER, value=value)

    def boolean(self, found: exp.Expression) -> Node:
        return Node(LITERAL, Type.CONDITION, value=bool(found.this))

    def null(self, found: exp.Expression) -> Node:
        raise self._refused(found, "nothing is compared with NULL", "Write IS NULL, or leave ELSE out.")

    def chain(self, found: exp.Expression) -> Node:
        """A row of equal operators is one level deep, however long."""
        kind, chain = type(found), [found]
        while type(chain[-1].this) is kind:
            chain.append(chain[-1].this)
        junction = kind in _JUNCTION
        if not junction and len(chain) > MAX_DEPTH:
            raise self._refused(found, f"the sum or product has more than {MAX_DEPTH} parts", "Make two rules of it.")
        name = _JUNCTION[kind] if junction else _ARITHMETIC[kind]
        read = self.condition if junction else self._number
        operands = [read(one) for one in (chain[-1].this, *(c.expression for c in reversed(chain)))]
        if junction:
            return Node(name, Type.CONDITION, tuple(operands))
        node = operands[0]
        for operand in operands[1:]:
            node = Node(name, Type.NUMBER, (node, operand))
        return node

    def negative(self, found: exp.Expression) -> Node:
        inner = self._number(found.this)
        if inner.kind == LITERAL:
            return Node(LITERAL, Type.NUMBER, value=-float(inner.value or 0.0))
        return Node("negative", Type.NUMBER, (inner,))

    def inverse(self, found: exp.Expression) -> Node:
        return Node("not", Type.CONDITION, (self.condition(found.this),))

    def equality(self, found: exp.Expression) -> Node:
        return Node(_EQUALITY[type(found)], Type.CONDITION, tuple(self._alike(found.this, found.expression)))

    def order(self, found: exp.Expression) -> Node:
        sides = (self._number(found.this), self._number(found.expression))
        return Node(_ORDER[type(found)], Type.CONDITION, sides)

    def between(self, found: exp.Expression) -> Node:
        if found.args.get("symmetric"):
            raise self._refused(found, "BETWEEN SYMMETRIC has no place in a rule")
        parts = (found.this, found.args["low"], found.args["high"])
        return Node("between", Type.CONDITION, tuple(self._number(part) for part in parts))

    def is_null(self, found: exp.Expression) -> Node:
        if not isinstance(found.expression, exp.Null):
            raise self._refused(found, "IS is for NULL", "Leave IS TRUE out; write NOT for IS FALSE.")
        return Node("is_null", Type.CONDITION, (self.node(found.this),))

    def within(self, found: exp.Expression) -> Node:
        if not found.expressions:
            raise self._refused(found, "IN needs a list of literals")
        if len(found.expressions) > LIST_LENGTH:
            raise self._refused(found, f"IN has more than {LIST_LENGTH} literals", "Make a list, and use its column.")
        nodes = self._alike(found.this, *found.expressions)
        if nodes[0].type is Type.CONDITION:
            raise self._refused(found, "IN is for numbers and texts")
        for one, node in zip(found.expressions, nodes[1:], strict=True):
            if node.kind != LITERAL:
                raise self._refused(one, "IN takes literals only")
        return Node("in", Type.CONDITION, tuple(nodes))

    def like(self, found: exp.Expression) -> Node:
        pattern = found.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string) or "\\" in pattern.this:
            raise self._refused(pattern, "the pattern of LIKE is a literal without a backslash")
        return Node("like", Type.CONDITION, (self._typed(found.this, Type.TEXT),), pattern.this)

    def case(self, found: exp.Expression) -> Node:
        if found.this is not None:
            raise self._refused(found, "CASE begins with WHEN and a condition")
        branches = found.args["ifs"]
        values = [branch.args["true"] for branch in branches]
        if found.args.get("default") is not None:
            values.append(found.args["default"])
        conditions = [self.condition(branch.this) for branch in branches]
        nodes = self._alike(*values)
        children = [part for pair in zip(conditions, nodes, strict=False) for part in pair]
        return Node("case", nodes[0].type, (*children, *nodes[len(conditions) :]))

    def function(self, found: exp.Expression) -> Node:
        name = _FUNCTIONS[type(found)]
        arguments = [found.this, *([found.expression] if found.args.get("expression") else []), *found.expressions]
        if name != "abs" and name != "length" and len(arguments) < 2:
            raise self._refused(found, f"{_called(found)} needs two arguments")
        if name == "length":
            return Node(name, Type.NUMBER, (self._typed(found.this, Type.TEXT),))
        if name in ("coalesce", "nullif"):
            nodes = self._alike(*arguments)
            return Node(name, nodes[0].type, tuple(nodes))
        return Node(name, Type.NUMBER, tuple(self._number(one) for one in arguments))


def _called(found: exp.Expression) -> str:
    if isinstance(found, exp.Anonymous):
        return str(found.name).upper()
    return str(found.sql_name() if isinstance(found, exp.Func) else found.key.upper())


_READERS: dict[type[exp.Expression], Callable[[_Reader, exp.Expression], Node]] = {
    exp.Paren: lambda reader, found: reader.node(found.this),
    exp.Column: _Reader.column,
    exp.Literal: _Reader.literal,
    exp.Boolean: _Reader.boolean,
    exp.Null: _Reader.null,
    **dict.fromkeys(_CHAINS, _Reader.chain),
    **dict.fromkeys(_EQUALITY, _Reader.equality),
    **dict.fromkeys(_ORDER, _Reader.order),
    exp.Neg: _Reader.negative,
    exp.Not: _Reader.inverse,
    exp.Between: _Reader.between,
    exp.Is: _Reader.is_null,
    exp.In: _Reader.within,
    exp.Like: _Reader.like,
    exp.Case: _Reader.case,
    **dict.fromkeys(_FUNCTIONS, _Reader.function),
}
