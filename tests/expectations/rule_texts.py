"""Generated rules and generated rows, over a small vocabulary of every type; a seed gives both.

They are drawn with `random`: hypothesis takes minutes over thousands of nested choices, and gives the seeds.
"""

from random import Random

from expectations.rules.tree import Type

COLUMNS = {
    **dict.fromkeys(("a", "b", "c"), Type.NUMBER),
    **dict.fromkeys(("s", "t"), Type.TEXT),
    **dict.fromkeys(("f", "g"), Type.CONDITION),
}
WORDS = ["", "a", "A", "é", "e\u0301", "ß", "SS", "🙂", "a'b", "a\\b", "%", "_", "a%", "\n", " ", "x" * 20, "ecom"]
FINITE = [0.0, -0.0, 1.0, -1.0, 0.1, 3.0, 1e308, -1e308, 5e-324, 2.0**53]
EDGES = [*FINITE, float("inf"), float("-inf"), float("nan"), None]


class Rules:
    """Draws texts of rules."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._one = random.choice

    def _number_literal(self) -> str:
        return repr(self._one([self._one(FINITE), round(self._random.uniform(-100, 100), 2)]))

    def _text_literal(self) -> str:
        return "'" + self._one(WORDS).replace("'", "''") + "'"

    def _pattern(self) -> str:
        return "'" + "".join(self._random.choices(["a", "%", "_", "é", "🙂", "''", "\n"], k=self._one(range(5)))) + "'"

    def _case(self, value, depth: int) -> str:
        branches = "".join(f" WHEN {self.condition(depth)} THEN {value(depth)}" for _ in range(self._one([1, 2])))
        return f"(CASE{branches}{self._one(['', f' ELSE {value(depth)}'])} END)"

    def number(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.2:
            return self._one(["a", "b", "c", self._number_literal()])
        d = depth - 1
        forms = [
            lambda: f"({self.number(d)} {self._one('+-*/%')} {self.number(d)})",
            lambda: f"({self.number(d)} {self._one('+-*/%')} {self.number(d)} {self._one('+-*/%')} {self.number(d)})",
            lambda: f"(- {self.number(d)})",
            lambda: f"ABS({self.number(d)})",
            lambda: f"{self._one(['LEAST', 'GREATEST'])}({self.number(d)}, {self.number(d)}, {self.number(d)})",
            lambda: f"{self._one(['COALESCE', 'NULLIF'])}({self.number(d)}, {self.number(d)})",
            lambda: f"LENGTH({self.text(d)})",
            lambda: self._case(self.number, d),
        ]
        return self._one(forms)()

    def text(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.3:
            return self._one(["s", "t", self._text_literal()])
        d = depth - 1
        forms = [
            lambda: f"{self._one(['COALESCE', 'NULLIF'])}({self.text(d)}, {self.text(d)})",
            lambda: self._case(self.text, d),
        ]
        return self._one(forms)()

    def condition(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.1:
            return self._one(["f", "g", "TRUE", "FALSE"])
        d = depth - 1
        some = range(self._one([1, 2, 12]))
        junction = ["AND", "OR"]
        forms = [
            lambda: f"{self.number(d)} {self._one(['=', '<>', '<', '<=', '>', '>='])} {self.number(d)}",
            lambda: f"{self.text(d)} {self._one(['=', '<>'])} {self.text(d)}",
            lambda: f"{self.text(d)} {self._one(['', 'NOT '])}LIKE {self._pattern()}",
            lambda: f"{self.number(d)} {self._one(['', 'NOT '])}IN ({', '.join(self._number_literal() for _ in some)})",
            lambda: f"{self.text(d)} {self._one(['', 'NOT '])}IN ({', '.join(self._text_literal() for _ in some)})",
            lambda: f"{self.number(d)} {self._one(['', 'NOT '])}BETWEEN {self.number(d)} AND {self.number(d)}",
            lambda: f"{self._one([self.number, self.text])(d)} IS {self._one(['', 'NOT '])}NULL",
            lambda: f"({self.condition(d)}) {self._one(['IS NULL', '= f', '<> g'])}",
            lambda: f"({self.condition(d)} {self._one(junction)} {self.condition(d)})",
            lambda: f"({self.condition(d)} AND {self.condition(d)} OR {self.condition(d)})",
            lambda: f"NOT ({self.condition(d)})",
            lambda: self._case(self.condition, d),
        ]
        return self._one(forms)()


def drawn(seed: int, rules: int, rows: int):
    """(texts of rules, rows as dictionaries)."""
    random = Random(seed)
    drawing = Rules(random)

    def row():
        edge = [random.choice(EDGES) for _ in range(3)]
        texts = [random.choice([None, *WORDS]) for _ in range(2)]
        return dict(zip(COLUMNS, (*edge, *texts, *(random.choice([None, True, False]) for _ in range(2))), strict=True))

    return [drawing.condition(4) for _ in range(rules)], [row() for _ in range(rows)]
