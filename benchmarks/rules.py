"""Thirty rules over a batch and over a single payment, from decoded columns to what fired.

Beside it, the same rules as DuckDB evaluates them over the same columns where it is installed.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks import report
from expectations.rules.dialects import DUCKDB, sql
from expectations.rules.parsing import parsed
from expectations.rules.programs import Program, program
from expectations.rules.tree import Node

Numbers = npt.NDArray[np.float64]
Texts = list[list[bytes | None]]

RULES = 30
SINGLE_REPEATS = 2_000
_TEXTS = {"channel": (b"ecom", b"pos", b"moto", None), "merchant_country": (b"DE", b"FR", b"US", None)}


def rules() -> list[Node]:
    """Rules of the size that people write: counts, a ratio, a text."""
    return [
        parsed(
            f"card_tx_count_5m > {i % 7} AND (card_amount_sum_24h / card_amount_sum_30d > 0.{i + 10} "
            f"OR card_declined_count_24h >= {i % 5}) AND {'channel' if i % 2 else 'merchant_country'} IN ('ecom', 'DE')"
        )
        for i in range(RULES)
    ]


def columns(made: Program, size: int, seed: int) -> tuple[Numbers, Texts]:
    """Random columns, a tenth of them unknown."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 12, (len(made.numbers), size)).astype(np.float64)
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    return numbers, [[_TEXTS[name][i] for i in random.integers(0, 4, size).tolist()] for name in made.texts]


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def duckdb_us(nodes: Sequence[Node], made: Program, numbers: Numbers, texts: Texts, fired: int) -> float:
    """Microseconds a payment and rule in DuckDB, one thread, to the number of payments that each rule fires for."""
    import duckdb

    values = {name: pa.array(row, from_pandas=True) for name, row in zip(made.numbers, numbers, strict=True)}
    for name, column in zip(made.texts, texts, strict=True):
        values[name] = pa.array([None if raw is None else raw.decode() for raw in column])
    counted = ", ".join(f"COUNT(*) FILTER (WHERE {sql(node, DUCKDB)})" for node in nodes)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("payments", pa.table(values))
        per_us: float = numbers.shape[1] * len(nodes) / 1e6
        query = f"SELECT {counted} FROM payments"  # noqa: S608 - of our own rules
        assert sum(connection.sql(query).fetchall()[0]) == fired, "DuckDB fires for other payments"
        took_s = seconds(lambda: connection.sql(query).fetchall(), 5)
    return took_s / per_us


def main(argv: Sequence[str]) -> None:
    """Run the benchmark."""
    given = report.parser("rules", __doc__, 10_000, "payments").parse_args(argv)
    nodes = rules()
    began = time.perf_counter()
    made = program(rules())
    load_ms = (time.perf_counter() - began) * 1000
    numbers, texts = columns(made, given.size, given.seed)
    one, first = np.ascontiguousarray(numbers[:, :1]), [column[:1] for column in texts]
    whole = made.fired(numbers, texts, given.size)
    assert (made.fired(one, first, 1)[:, 0] == whole[:, 0]).all(), "a payment alone fires other rules than in a batch"
    runs = []
    for number in range(given.runs):
        batch_s = seconds(lambda: made.fired(numbers, texts, given.size), 20)
        single_s = seconds(lambda: made.fired(one, first, 1), SINGLE_REPEATS)
        figures = {
            "us_per_payment_and_rule": batch_s / given.size / RULES * 1e6,
            "single_payment_us": single_s * 1e6,
            "load_ms": load_ms,
        }
        runs.append(figures)
        print(f"run {number + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    against = {}
    if importlib.util.find_spec("duckdb"):
        against["duckdb"] = {
            "us_per_payment_and_rule": round(duckdb_us(nodes, made, numbers, texts, int(whole.sum())), 4)
        }
    report.finish("rules", given.runs, {n: round(v, 4) for n, v in report.medians(runs).items()}, against)


if __name__ == "__main__":
    main(sys.argv[1:])
