"""A rule's tree as SQL text for an engine, with the same value there for every row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from expectations.rules.tree import ARITHMETIC, COLUMN, COMPARISONS, LITERAL, Node, Type


@dataclass(frozen=True)
class Dialect:
    """How one engine writes names and texts, and what it calls its functions."""

    name: str
    quote: str
    escapes: Mapping[str, str]
    least: str = "LEAST"
    greatest: str = "GREATEST"


DUCKDB = Dialect("duckdb", '"', {"'": "''"})
SPARK = Dialect("spark", "`", {"\\": "\\\\", "'": "\\'"})
# Its LEAST is NULL when one argument is.
SNOWFLAKE = Dialect("snowflake", '"', {"\\": "\\\\", "'": "\\'"}, "LEAST_IGNORE_NULLS", "GREATEST_IGNORE_NULLS")
DIALECTS = {dialect.name: dialect for dialect in (DUCKDB, SPARK, SNOWFLAKE)}

_NAN = "CAST('NaN' AS DOUBLE)"
_ZERO = "CAST(0 AS DOUBLE)"


def sql(node: Node, dialect: Dialect, column: Callable[[str], str] | None = None) -> str:
    """The expression; `column` gives the text of a column (default: its quoted name)."""

    def write(one: Node) -> str:
        return sql(one, dialect, column)

    kind, inner = node.kind, [write(child) for child in node.children]
    if kind == LITERAL:
        return _literal(node.value, dialect)
    if kind == COLUMN:
        name = column(str(node.value)) if column else f"{dialect.quote}{node.value}{dialect.quote}"
        return f"NULLIF(CAST({name} AS DOUBLE), {_NAN})" if node.type is Type.NUMBER else name
    if kind in ("and", "or"):
        return f"({f' {kind.upper()} '.join(inner)})"
    if kind in COMPARISONS:
        return f"({inner[0]} {kind} {inner[1]})"
    if kind in ARITHMETIC:
        right = f"NULLIF({inner[1]}, {_ZERO})" if kind in "/%" else inner[1]
        # What is no number (inf - inf, 0 * inf) is unknown.
        return f"NULLIF({inner[0]} {kind} {right}, {_NAN})"
    if kind == "in" and node.children[0].type is Type.TEXT:
        return f"({inner[0]} IN ({', '.join(inner[1:])}))"
    if kind == "in":
        # Spark makes a hash set of a long list, and there -0.0 is not 0.0.
        return f"({' OR '.join(f'{inner[0]} = {one}' for one in inner[1:])})"
    if kind == "case":
        whens = "".join(f" WHEN {a} THEN {b}" for a, b in zip(inner[0::2], inner[1::2], strict=False))
        return f"CASE{whens}{f' ELSE {inner[-1]}' if len(inner) % 2 else ''} END"
    return _FORMS[kind](inner, node, dialect)


def _literal(value: float | str | bool | None, dialect: Dialect) -> str:
    if isinstance(value, str):
        return f"'{''.join(dialect.escapes.get(c, c) for c in value)}'"
    if isinstance(value, bool):
        return str(value).upper()
    return f"CAST('{value!r}' AS DOUBLE)"


_FORMS: Mapping[str, Callable[[list[str], Node, Dialect], str]] = {
    "not": lambda inner, _node, _dialect: f"(NOT {inner[0]})",
    "is_null": lambda inner, _node, _dialect: f"({inner[0]} IS NULL)",
    "between": lambda inner, _node, _dialect: f"({inner[0]} BETWEEN {inner[1]} AND {inner[2]})",
    "like": lambda inner, node, dialect: f"({inner[0]} LIKE {_literal(node.value, dialect)})",
    "negative": lambda inner, _node, _dialect: f"(- {inner[0]})",
    "abs": lambda inner, _node, _dialect: f"ABS({inner[0]})",
    "least": lambda inner, _node, dialect: f"{dialect.least}({', '.join(inner)})",
    "greatest": lambda inner, _node, dialect: f"{dialect.greatest}({', '.join(inner)})",
    "coalesce": lambda inner, _node, _dialect: f"COALESCE({', '.join(inner)})",
    "nullif": lambda inner, _node, _dialect: f"NULLIF({inner[0]}, {inner[1]})",
    "length": lambda inner, _node, _dialect: f"CAST(LENGTH({inner[0]}) AS DOUBLE)",
}
