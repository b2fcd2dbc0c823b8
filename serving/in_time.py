"""Asking a store in threads of its own, so that one which is slow or hangs is in nobody else's way."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import Counter

from lakehouse.errors import FraudlakeError
from serving.problems import Problem

T = TypeVar("T")

LATE_S = 5.0
"""A store that was late is taken to be for so long, by those who would rather not wait for it."""


class InTime:
    """So many threads, and how long an answer is waited for; `what` cannot be done without one."""

    def __init__(self, threads: int, name: str, timeout_s: float, what: str, failures: Counter) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._timeout_s, self._what, self._failures = timeout_s, what, failures
        self._late_until_s = 0.0

    @property
    def late(self) -> bool:
        """Whether the last answers did not come in time; one that does ends it."""
        return time.monotonic() < self._late_until_s

    async def asked(self, work: Callable[[], T]) -> T:
        """What some work gives; Problem 503 when it fails or is late."""
        asked = self._threads.submit(work)
        try:
            found = await asyncio.wait_for(asyncio.wrap_future(asked), self._timeout_s)
        except TimeoutError:
            self._late_until_s = time.monotonic() + LATE_S
            why = f"It did not answer within {self._timeout_s:g} s."
        except FraudlakeError as error:
            why = str(error)
        else:
            self._late_until_s = 0.0
            return found
        self._failures.labels("read").inc()
        raise Problem(503, self._what, f"{why} Deciding goes on without it.") from None

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
