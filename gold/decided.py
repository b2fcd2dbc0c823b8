"""gold.decisions: what every payment was answered in the end."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from decisions.effective import ENDS, EXPIRED
from decisions.ladder import APPROVE
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.contracts.gold import DECISIONS

_WORDS = ("answered_outcome", "challenge_result")
"""What is said of a payment after its decision, as gold.decisions names it."""


def decided_ends(root: str) -> dict[str, int]:
    """Exclusive end of the offsets of topic `events` that silver.decisions holds, by `topic_id/partition`.

    Its commits tell of the other topic, `decisions`. Decisions are made in the order of the log, so what comes later
    lies behind this end.
    """
    return {span.key: span.end for span in delta.spans(root, silver.DECISIONS)}


def words(answers: DataFrame, outcomes: DataFrame) -> DataFrame:
    """The API's first answer to each transaction and the first end of its challenge; null where there is none."""
    sources = ((answers, "outcome", _WORDS[0]), (outcomes, "result", _WORDS[1]))
    answered, ended = (rows.select("transaction_id", "offset", F.col(told).alias(name)) for rows, told, name in sources)
    said = answered.unionByName(ended, allowMissingColumns=True)
    first = (F.min_by(name, F.when(F.col(name).isNotNull(), F.col("offset"))).alias(name) for name in _WORDS)
    return said.groupBy("transaction_id").agg(*first)


def caught_up(final: DataFrame, decided: DataFrame, words: DataFrame) -> DataFrame:
    """Rows of gold.decisions made again because a word on them arrived after they were written."""
    new = words.select("transaction_id", *(F.col(name).alias(f"new_{name}") for name in _WORDS))
    lacks = [F.col(name).isNull() & F.col(f"new_{name}").isNotNull() for name in _WORDS]
    late = final.join(F.broadcast(new), "transaction_id").where(lacks[0] | lacks[1])
    again = decisions(decided.join(F.broadcast(late.select(*delta.PLACE)), list(delta.PLACE), "left_semi"), words)
    # A rejected repeat lacks the first one's words for ever.
    return again.where(F.coalesce(*_WORDS).isNotNull())


def decisions(decided: DataFrame, words: DataFrame) -> DataFrame:
    """The engine's decisions and the words over them; a rejected repeat never takes those of the first one."""
    rows = decided.withColumnRenamed("outcome", "decided_outcome").join(F.broadcast(words), "transaction_id", "left")
    conflict = F.array_contains("rejected_by", "conflict")
    return (
        rows.withColumns({name: F.when(~conflict, F.col(name)) for name in _WORDS})
        .withColumn("effective_outcome", _effective())
        .select(*DECISIONS.column_names)
    )


def _effective() -> Column:
    """`decisions.effective` over columns."""
    kept = (F.col("answered_outcome") == APPROVE) & (F.col("challenge_result") == EXPIRED)
    meant = (F.when(F.col("challenge_result") == result, outcome) for result, outcome in ENDS.items())
    return F.coalesce(F.when(kept, APPROVE), *meant, "answered_outcome", "decided_outcome")
