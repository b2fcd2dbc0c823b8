"""The statements of a decision store in SQL, for SQLite and PostgreSQL alike; they differ in types and placeholders."""

from collections.abc import Mapping, Sequence

from decisions.outcome import REJECTED
from serving.decision_store import ANSWER, COLUMNS, CONFLICT, END, KEY, NULLABLE, SCHEMA_VERSION, TYPES

_ANSWER = ("transaction_id", "kind", "outcome", "topic_id", "partition", "offset")
_PROGRESS = ("topic_id", "partition", "first", "next", "epoch", "decided")
_PLACE = KEY[1:]


def _names(names: Sequence[str], of: str = "", then: str = "") -> str:
    return ", ".join(f'{of}"{name}"{then}' for name in names)


class ProgressTable:
    """The statements of a table of progress: what makes it, what notes progress, what asks for it."""

    def __init__(self, table: str, mark: str, types: Mapping[type, str], options: str = "") -> None:
        text, number = types[str], types[int]
        self.make = (
            f'CREATE TABLE IF NOT EXISTS {table} (topic_id {text}, "partition" {number}, '
            f'{_names(_PROGRESS[2:], then=f" {number} NOT NULL")}, PRIMARY KEY (topic_id, "partition")){options}'
        )
        self.note = (
            f"INSERT INTO {table} AS p ({_names(_PROGRESS)}) VALUES ({', '.join([mark] * len(_PROGRESS))}) "
            f'ON CONFLICT (topic_id, "partition") DO UPDATE SET {_excluded(_PROGRESS[2:])} '
            'WHERE p."next" < excluded."next"'
        )
        self.ask = f'SELECT {_names(_PROGRESS)} FROM {table} WHERE topic_id = {mark} AND "partition" = {mark}'


class Statements:
    """`mark` stands for a value, `types` give the database's name of each Python type."""

    def __init__(self, mark: str, types: Mapping[type, str], table_options: str = "") -> None:
        self._types, self._options = types, table_options
        self._decisions, self._answers = "decisions", "answers"
        self._version = "schema_version"
        marks = {n: ", ".join([mark] * n) for n in (len(_PLACE), len(COLUMNS), len(_ANSWER))}
        found = (
            f"SELECT {_names(COLUMNS, 'd.')}, a.outcome, e.outcome FROM {self._decisions} d "
            f"LEFT JOIN {self._answers} a ON a.transaction_id = d.transaction_id AND a.kind = '{ANSWER}' "
            f"LEFT JOIN {self._answers} e ON e.transaction_id = d.transaction_id AND e.kind = '{END}' WHERE "
        )
        newest = f"ORDER BY {_names(_PLACE, 'd.', ' DESC')} LIMIT"
        self.of_card = f"{found} d.card_token = {mark} {newest} {mark}"
        before = f"({_names(_PLACE, 'd.')}) < ({marks[len(_PLACE)]})"
        self.of_card_before = f"{found} d.card_token = {mark} AND {before} {newest} {mark}"
        # A conflict is no decision of the transaction whose id it took. A percent sign is doubled for psycopg only.
        percent = "%%" if mark == "%s" else "%"
        no_conflict = f"d.rejected_by NOT LIKE '{percent},{CONFLICT},{percent}'"
        # Nor is a refusal, where another record of that id was good.
        good_first = newest.replace("ORDER BY ", f"ORDER BY (d.outcome = '{REJECTED}'), ")
        self.by_transaction = f"{found} d.transaction_id = {mark} AND {no_conflict} {good_first} 1"
        self.by_decision = f"{found} d.decision_id = {mark} {newest} 1"
        self.add_decision = (
            f"INSERT INTO {self._decisions} ({_names(COLUMNS)}) VALUES ({marks[len(COLUMNS)]}) "
            f"ON CONFLICT ({_names(KEY)}) DO NOTHING"
        )
        self.add_answer = (
            f"INSERT INTO {self._answers} AS a ({_names(_ANSWER)}) VALUES ({marks[len(_ANSWER)]}) "
            f"ON CONFLICT (transaction_id, kind) DO UPDATE SET {_excluded(_ANSWER[2:])} "
            'WHERE a.topic_id = excluded.topic_id AND a."partition" = excluded."partition" '
            'AND a."offset" > excluded."offset"'
        )
        self._progress = ProgressTable("progress", mark, types, table_options)
        self.set_progress, self.progress = self._progress.note, self._progress.ask
        self.version = f"SELECT version FROM {self._version}"

    def tables(self) -> list[str]:
        """What makes the tables and indexes that are not there; and notes the version where none is noted."""
        text, number = self._types[str], self._types[int]
        columns = ", ".join(f'"{name}" {self._type(name)}' for name in COLUMNS)
        return [
            f"CREATE TABLE IF NOT EXISTS {self._version} (version {number} PRIMARY KEY){self._options}",
            f"INSERT INTO {self._version} SELECT {SCHEMA_VERSION} WHERE NOT EXISTS (SELECT 1 FROM {self._version})",
            f"CREATE TABLE IF NOT EXISTS {self._decisions} ({columns}, PRIMARY KEY ({_names(KEY)})){self._options}",
            f"CREATE INDEX IF NOT EXISTS decisions_by_transaction ON {self._decisions} (transaction_id)",
            f"CREATE INDEX IF NOT EXISTS decisions_by_id ON {self._decisions} (decision_id)",
            f"CREATE TABLE IF NOT EXISTS {self._answers} (transaction_id {text}, kind {text}, outcome {text} NOT NULL, "
            f'topic_id {text} NOT NULL, "partition" {number} NOT NULL, "offset" {number} NOT NULL, '
            f"PRIMARY KEY (transaction_id, kind)){self._options}",
            self._progress.make,
        ]

    def _type(self, name: str) -> str:
        return self._types[TYPES[name]] + ("" if name in NULLABLE else " NOT NULL")


def _excluded(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}" = excluded."{name}"' for name in names)
