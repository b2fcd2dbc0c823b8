"""The FastAPI application: POST and GET decisions, health and metrics."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse import keys
from lakehouse.crypto import Digests
from lakehouse.settings import Settings, resolve
from lakehouse.version import VERSION
from serving import problems
from serving.auth import DECIDE, HEADER, REPLAY, authenticated, callers
from serving.decisions import Path, described
from serving.following import Follower, followers
from serving.log_writer import LogWriter
from serving.problems import Problem
from serving.replies import Replies
from serving.schemas import PAYMENT_SCHEMA, DecisionAnswer, PaymentRequest

MAX_ID = 64

Key = Annotated[str | None, Depends(HEADER)]


class BodyLimit:
    """Answers 411 and 413 before a body is read; plain ASGI, as a wrapped function costs a task each."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (self._app if refused is None else refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        length = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        if length is None or not length.isdigit():
            if scope["method"] == "POST":
                return problems.answer(411, "Content-Length is missing", "Send the length of the body.")
        elif int(length) > self._most_bytes:
            return problems.answer(413, "The body is too large", f"At most {self._most_bytes} bytes.")
        return None


def create_app(settings: Settings) -> FastAPI:
    """The application of these settings; it connects to the broker when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        replies = Replies(settings.api.index_records)
        writer = LogWriter(settings)
        readers = await asyncio.to_thread(followers, settings, replies, loop)
        for reader in readers:
            reader.start()
        app.state.readers = readers
        digests = Digests(keys.source(settings).keyring())
        app.state.path = Path(writer, replies, digests, settings.api.decision_timeout_ms / 1000, socket.gethostname())
        yield
        for reader in readers:
            await asyncio.to_thread(reader.stop)
        await asyncio.to_thread(writer.close, settings.kafka.request_timeout_s)

    app = FastAPI(title="fraudlake", version=VERSION, summary="Decisions over payments, log first.", lifespan=lifespan)
    app.state.callers = callers(resolve(settings.keys.folder))
    problems.install(app)

    app.add_middleware(BodyLimit, most_bytes=settings.api.body_limit_bytes)

    @app.post(
        "/v1/decisions",
        tags=["decisions"],
        summary="Decide a payment",
        response_model=DecisionAnswer,
        responses=problems.documented(
            {
                401: "no known API key",
                403: "the key lacks a role",
                409: "another payment has this transaction_id",
                422: "not a payment: the fields that are wrong, or the rules that rejected it",
                503: "nothing was decided: the log did not take the payment",
            }
        ),
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": PAYMENT_SCHEMA}}}},
    )
    async def decide(request: Request, key: Key) -> Response:
        """Write the payment to the log, wait for the engine's decision, answer.

        After `decision_timeout_ms` the answer is `review` with `degraded: true`, and stays the effective outcome.
        """
        caller = authenticated(request, key, DECIDE)
        path: Path = request.app.state.path
        received_at = datetime.now(UTC)
        payment = problems.parsed(PaymentRequest, await request.body())
        if payment.received_at is not None:
            if REPLAY not in caller.roles:
                raise Problem(403, "This key may not set received_at", "Leave it out; the time of arrival is taken.")
            received_at = payment.received_at
        made = await path.decide(payment, received_at)
        return Response(made.model_dump_json(), media_type="application/json")

    @app.get("/v1/decisions/{transaction_id}", tags=["decisions"], summary="What a payment was answered")
    async def find(request: Request, transaction_id: str, key: Key) -> DecisionAnswer:
        """The effective and the decided outcome of a recent payment."""
        authenticated(request, key, DECIDE)
        path: Path = request.app.state.path
        found = path.replies.find(transaction_id) if len(transaction_id) <= MAX_ID else None
        if found is None:
            raise Problem(
                404, "No recent decision", "It is not among the recent ones; older ones are in gold.decisions."
            )
        return described(found)

    @app.get("/health/live", tags=["operations"], summary="The process runs")
    async def live() -> dict[str, str]:
        """Always ok while the process can answer."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["operations"], summary="The replica has read what it needs")
    async def ready(request: Request) -> Response:
        """503 until both readers have reached what was there at the start, or when one has ended."""
        readers: list[Follower] = request.app.state.readers
        if all(reader.caught_up for reader in readers):
            return Response('{"status":"ok"}', media_type="application/json")
        failed = next((reader.failed for reader in readers if reader.failed), "still reading")
        return problems.answer(503, "Not ready", failed)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
