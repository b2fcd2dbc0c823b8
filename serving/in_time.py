"""Asking a store in threads of its own, so that one which is slow or hangs is in nobody else's way."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import Counter

from lakehouse.errors import FraudlakeError
from serving.problems import Problem

T = TypeVar("T")


class InTime:
    """So many threads, and how long an answer is waited for; `what` cannot be done without one."""

    def __init__(self, threads: int, name: str, timeout_s: float, what: str, failures: Counter) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._timeout_s, self._what, self._failures = timeout_s, what, failures

    async def asked(self, work: Callable[[], T]) -> T:
        """What some work gives; Problem 503 when it fails or is late."""
        asked = self._threads.submit(work)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), self._timeout_s)
        except TimeoutError:
            why = f"It did not answer within {self._timeout_s:g} s."
        except FraudlakeError as error:
            why = str(error)
        self._failures.labels("read").inc()
        raise Problem(503, self._what, f"{why} Deciding goes on without it.") from None

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
