"""Decisions in Cassandra, shared by every replica: a table by card, and two that lead to it by id.

A write by its whole key may be repeated: a timeout, after which nobody knows, is answered by writing again. Where one
of several writes has to win, whoever comes when, the position on the log is the write's timestamp.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from itertools import islice
from typing import Any, TypeVar

from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.query import PreparedStatement

from decisions.outcome import REJECTED
from lakehouse import cql
from lakehouse.errors import ContractBroken
from lakehouse.settings import Settings
from serving.decision_store import (
    ANSWER,
    COLUMNS,
    END,
    KEY,
    SCHEMA_VERSION,
    TYPES,
    Answer,
    Place,
    Progress,
    StoredDecision,
    namespace,
    row,
    unrow,
)

T = TypeVar("T")

AT_ONCE = 256
"""Statements on their way together: a node that syncs its log before it acknowledges does so for all that wait."""
IDS_AT_ONCE = 64
"""Partitions that one query names: each is a read of its own on the other side."""
MAKING_S = 20.0
"""For a table: a change of the schema takes a second on a busy machine, and nobody waits for it but the writer."""
FIRST = 2**53
"""Write timestamps of answers count down from here, so that the one that is first on the log is the latest."""

_PLACE = KEY[1:]
_NAMES = {str: "text", int: "bigint", float: "double"}


def _names(names: Iterable[str], then: str = "") -> str:
    return ", ".join(f'"{name}"{then}' for name in names)


_NEWEST = f"WITH CLUSTERING ORDER BY ({_names(_PLACE, ' DESC')})"
_PLACED = f"card_token text, {_names(_PLACE[:3], ' bigint')}, topic_id text"
_MARKS = ", ".join("?" * len(_PLACE))
_COLUMNS = ", ".join(f'"{name}" {_NAMES[TYPES[name]]}' for name in COLUMNS)
_OUTCOME = COLUMNS.index("outcome")
_WHOLE_KEY = " AND ".join(f'"{name}" = ?' for name in KEY)
TABLES = (
    "CREATE TABLE IF NOT EXISTS schema_version (world text PRIMARY KEY, version int)",
    f"CREATE TABLE IF NOT EXISTS decisions ({_COLUMNS}, answered text, ended text, "
    f"PRIMARY KEY (card_token, {_names(_PLACE)})) {_NEWEST}",
    f"CREATE TABLE IF NOT EXISTS by_transaction (transaction_id text, {_PLACED}, "
    f"PRIMARY KEY (transaction_id, {_names(_PLACE)})) {_NEWEST}",
    f"CREATE TABLE IF NOT EXISTS by_decision (decision_id text PRIMARY KEY, {_PLACED})",
    'CREATE TABLE IF NOT EXISTS answers (transaction_id text, kind text, outcome text, "offset" bigint, '
    "PRIMARY KEY (transaction_id, kind))",
    'CREATE TABLE IF NOT EXISTS progress (topic_id text, "partition" bigint, "first" bigint, "next" bigint, '
    'epoch bigint, decided bigint, PRIMARY KEY (topic_id, "partition"))',
)
_FOUND = f"SELECT {_names(COLUMNS)}, answered, ended FROM decisions WHERE card_token = ?"
STATEMENTS = {
    "add_decision": f"INSERT INTO decisions ({_names(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
    "add_by_transaction": f"INSERT INTO by_transaction (transaction_id, {_names(KEY)}) VALUES (?, ?, {_MARKS})",
    "add_by_decision": f"INSERT INTO by_decision (decision_id, {_names(KEY)}) VALUES (?, ?, {_MARKS})",
    "add_answer": 'INSERT INTO answers (transaction_id, kind, outcome, "offset") VALUES (?, ?, ?, ?) USING TIMESTAMP ?',
    ANSWER: f"UPDATE decisions USING TIMESTAMP ? SET answered = ? WHERE {_WHOLE_KEY}",
    END: f"UPDATE decisions USING TIMESTAMP ? SET ended = ? WHERE {_WHOLE_KEY}",
    "answers": 'SELECT transaction_id, kind, outcome, "offset" FROM answers WHERE transaction_id IN ?',
    "set_progress": 'INSERT INTO progress (topic_id, "partition", "first", "next", epoch, decided) '
    "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    "progress": 'SELECT topic_id, "partition", "first", "next", epoch, decided FROM progress '
    'WHERE topic_id = ? AND "partition" = ?',
    "of_card": f"{_FOUND} LIMIT ?",
    "of_card_before": f"{_FOUND} AND ({_names(_PLACE)}) < ({_MARKS}) LIMIT ?",
    "one": f"{_FOUND} AND ({_names(_PLACE)}) = ({_MARKS})",
    "places": f"SELECT {_names(KEY)} FROM by_transaction WHERE transaction_id = ?",
    "place": f"SELECT {_names(KEY)} FROM by_decision WHERE decision_id = ?",
}


class Connected:
    """A session on the keyspace of a world, with its statements prepared."""

    def __init__(self, cluster: Cluster, session: Session, statements: dict[str, PreparedStatement]) -> None:
        self.cluster, self.session, self.statements = cluster, session, statements

    def rows(self, name: str, values: Sequence[Any]) -> list[Any]:
        """What one statement gives."""
        return list(self.session.execute(self.statements[name], values))

    def all(self, calls: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run statements, so many at a time; returns when all are acknowledged."""
        room, asked = threading.Semaphore(AT_ONCE), []

        def done(_: object) -> None:
            room.release()

        for name, values in calls:
            room.acquire()
            future = self.session.execute_async(self.statements[name], values)
            future.add_callbacks(done, done)
            asked.append(future)
        for future in asked:
            future.result()


class InCassandra:
    """One cluster connection for all threads; the driver finds a node that comes back by itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = cql.secret(settings)
        self._keyspace = namespace(settings)
        self._connected: Connected | None = None
        self._lock = threading.Lock()

    def write(self, decisions: Sequence[StoredDecision], answers: Sequence[Answer], progress: Progress) -> None:
        """Take rows in, then answers, then progress.

        Of a decision and the answer to it, which another replica may write at this moment, each is written first and
        then looks for the other: one of them finds it.
        """

        def work(connected: Connected) -> None:
            connected.all(_rows_of(decisions))
            connected.all(
                ("add_answer", (one.transaction_id, one.kind, one.outcome, one.offset, FIRST - one.offset))
                for one in answers
            )
            connected.all(_answered(connected, decisions))
            connected.all(_answering(connected, answers))
            connected.rows("set_progress", (*astuple(progress), progress.next))

        self._asked(work)

    def progress(self, topic_id: str, partition: int) -> Progress | None:
        """How far the store is complete."""
        found = self._asked(lambda connected: connected.rows("progress", (topic_id, partition)))
        return Progress(*found[0]) if found else None

    def of_card(self, card_token: str, limit: int, before: Place | None = None) -> list[StoredDecision]:
        """A page of a card."""
        name = "of_card" if before is None else "of_card_before"
        values = (card_token, *(() if before is None else before.values()), limit)
        found = self._asked(lambda connected: connected.rows(name, values))
        return [unrow(one) for one in found]

    def by_transaction(self, transaction_id: str) -> StoredDecision | None:
        """The last decision of a transaction that is no conflict; a rejected one only where there is no other."""
        return self._led("places", transaction_id)

    def by_decision(self, decision_id: str) -> StoredDecision | None:
        """The decision of an id."""
        return self._led("place", decision_id)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connected is not None:
                self._connected.cluster.shutdown()
            self._connected = None

    def _led(self, name: str, value: str) -> StoredDecision | None:
        def work(connected: Connected) -> list[Any]:
            return _first_good(connected, connected.rows(name, (value,)))

        found = self._asked(work)
        return unrow(found[0]) if found else None

    def _asked(self, work: Callable[[Connected], T]) -> T:
        try:
            return work(self._connection())
        except NoHostAvailable as error:
            raise cql.unavailable(self._settings, error) from None
        except cql.ERRORS as error:
            # A keyspace that was dropped is made again with the next connection.
            self.close()
            raise cql.unavailable(self._settings, error) from None

    def _connection(self) -> Connected:
        with self._lock:
            if self._connected is None:
                self._connected = self._made()
            return self._connected

    def _made(self) -> Connected:
        cluster = cql.cluster(self._settings, self._settings.cassandra.user, self._secret)
        try:
            session = cluster.connect()
            copies = self._settings.cassandra.replication_factor
            session.execute(
                f"CREATE KEYSPACE IF NOT EXISTS {self._keyspace} WITH replication = "
                f"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}",
                timeout=MAKING_S,
            )
            session.set_keyspace(self._keyspace)
            for statement in TABLES:
                session.execute(statement, timeout=MAKING_S)
            self._check_version(session)
            return Connected(cluster, session, {name: session.prepare(text) for name, text in STATEMENTS.items()})
        except BaseException:
            cluster.shutdown()
            raise

    def _check_version(self, session: Session) -> None:
        session.execute(
            "INSERT INTO schema_version (world, version) VALUES (%s, %s) IF NOT EXISTS",
            (self._keyspace, SCHEMA_VERSION),
        )
        ((version,),) = session.execute("SELECT version FROM schema_version WHERE world = %s", (self._keyspace,))
        if version != SCHEMA_VERSION:
            raise ContractBroken(
                f"Keyspace {self._keyspace} has tables of version {version}, this release has {SCHEMA_VERSION}.",
                "Drop that keyspace: the API fills a new one from topic `decisions`.",
            )


def _rows_of(decisions: Sequence[StoredDecision]) -> Iterable[tuple[str, Sequence[Any]]]:
    for one in decisions:
        key = (one.card_token, *one.place.values())
        yield "add_decision", row(one)
        yield "add_by_decision", (one.decision_id, *key)
        if not one.is_conflict:
            yield "add_by_transaction", (one.transaction_id, *key)


def _first_good(connected: Connected, places: Sequence[Any]) -> list[Any]:
    """The row of the first place that was not rejected, else of the first one."""
    first: list[Any] = []
    for place in places:
        found = connected.rows("one", place)
        if found and found[0][_OUTCOME] != REJECTED:
            return found
        first = first or found
    return first


def _answered(connected: Connected, decisions: Sequence[StoredDecision]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Answers that were there before their decisions."""
    places: dict[str, list[StoredDecision]] = {}
    for one in decisions:
        if not one.is_conflict:
            places.setdefault(one.transaction_id, []).append(one)
    ids = iter(places)
    while some := list(islice(ids, IDS_AT_ONCE)):
        for transaction_id, kind, outcome, offset in connected.rows("answers", (some,)):
            for one in places[transaction_id]:
                yield kind, (FIRST - offset, outcome, one.card_token, *one.place.values())


def _answering(connected: Connected, answers: Sequence[Answer]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Answers to decisions that are there."""
    for one in answers:
        for key in connected.rows("places", (one.transaction_id,)):
            yield one.kind, (FIRST - one.offset, one.outcome, *key)
