"""The state of the rings of customers, and the one way to take records into it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.catalogue import program
from features.clusters import LINK, LINKS, MEMBER, ROOM_FOR_LINKS, ROOM_FOR_TOKENS, TOKEN, TOKENS, advance_clusters
from features.entities import WHO, Cluster
from features.layout import FIRST_LABELS, LABEL
from features.records import Records
from features.ring import KEYS, LABELS_USED, ROOM_FOR_LABELS, no_counters
from features.statistics import CLUSTER
from features.table import FIRST_PLACES, grown, places_for, tabled
from features.windows import DAY_MS


class ClusterArrays(NamedTuple):
    """Customers, tokens and who was seen with which; `statistics` and `roots` are scratch."""

    table: npt.NDArray[np.void]
    record: npt.NDArray[np.void]
    token_table: npt.NDArray[np.void]
    tokens: npt.NDArray[np.void]
    link_table: npt.NDArray[np.void]
    links: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.float64]
    roots: npt.NDArray[np.int64]


class ClusterPlan(NamedTuple):
    """What joins customers: columns of Records.who (the customer, then tokens) and each token's limit."""

    columns: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    retention_ms: int
    max_keys: int
    program: npt.NDArray[np.int64]


class ClusterState:
    """The rings of one kind of member."""

    def __init__(self, cluster: Cluster, record_retention_d: int, max_keys: int) -> None:
        self.name = cluster.name
        self.plan = ClusterPlan(
            np.array([WHO.index(name) for name in (cluster.member, *cluster.limits)], np.int64),
            np.array(list(cluster.limits.values()), np.int64),
            record_retention_d * DAY_MS,
            max_keys,
            program(cluster.name),
        )
        table, record = tabled(np.zeros(0, MEMBER), FIRST_PLACES)
        token_table, tokens = tabled(np.zeros(0, TOKEN), FIRST_PLACES)
        link_table, links = tabled(np.zeros(0, LINK), FIRST_PLACES)
        self.arrays = ClusterArrays(
            *(table, record, token_table, tokens, link_table, links),
            labels=np.zeros(FIRST_LABELS, LABEL),
            counters=no_counters(),
            statistics=np.zeros(len(CLUSTER)),
            roots=np.zeros(1 + len(cluster.limits), np.int64),
        )

    def advance(self, records: Records, result: npt.NDArray[np.float32], capped: npt.NDArray[np.bool_]) -> None:
        """Take records in, in order; write the rings' features into the rows of payments in `result`."""
        begin = 0
        while begin < len(records.what):
            begin, lacking = advance_clusters(self.arrays, self.plan, records, begin, result, capped)
            if lacking == ROOM_FOR_LABELS:
                self.arrays = self.arrays._replace(labels=grown(self.arrays.labels, 2 * len(self.arrays.labels)))
            elif lacking:
                self._grow(lacking)

    def _grow(self, lacking: int) -> None:
        s, n = self.arrays, self.arrays.counters
        if lacking == ROOM_FOR_TOKENS:
            table, tokens = tabled(s.tokens[: n[TOKENS]], 2 * len(s.token_table))
            self.arrays = s._replace(token_table=table, tokens=tokens)
        elif lacking == ROOM_FOR_LINKS:
            table, links = tabled(s.links[: n[LINKS]], 2 * len(s.link_table))
            self.arrays = s._replace(link_table=table, links=links)
        else:
            table, record = tabled(s.record[: n[KEYS]], 2 * len(s.table))
            self.arrays = s._replace(table=table, record=record)

    @property
    def keys(self) -> int:
        """Customers held."""
        return int(self.arrays.counters[KEYS])

    def bytes_held(self) -> int:
        """Bytes in use: customers, tokens, links and their tables."""
        s = self.arrays
        tables = sum(array.nbytes for array in (s.table, s.token_table, s.link_table))
        return tables + sum(array.nbytes for array in self.saved().values())

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """The used part of every array that makes up the state."""
        s, n = self.arrays, self.arrays.counters
        return {
            "record": s.record[: n[KEYS]],
            "tokens": s.tokens[: n[TOKENS]],
            "links": s.links[: n[LINKS]],
            "labels": s.labels[: n[LABELS_USED]],
            "counters": n,
        }

    def load(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `saved` holds."""
        table, record = tabled(saved["record"], places_for(len(saved["record"])))
        token_table, tokens = tabled(saved["tokens"], places_for(len(saved["tokens"])))
        link_table, links = tabled(saved["links"], places_for(len(saved["links"])))
        self.arrays = self.arrays._replace(
            table=table,
            record=record,
            token_table=token_table,
            tokens=tokens,
            link_table=link_table,
            links=links,
            labels=grown(saved["labels"], max(2 * len(saved["labels"]), FIRST_LABELS)),
            counters=saved["counters"].copy(),
        )
