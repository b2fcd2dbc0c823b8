"""The FastAPI application: POST and GET decisions, GET cards and entities, health and metrics."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as UrlPart
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse import key_age, keys, topics
from lakehouse.broker import End
from lakehouse.crypto import Digests
from lakehouse.errors import StoreUnavailable
from lakehouse.settings import Settings, resolve
from lakehouse.version import VERSION
from serving import problems
from serving.auth import DECIDE, HEADER, REPLAY, authenticated, callers
from serving.cards import CardDecisions, Reads, answer_of, place, presented
from serving.decision_store import MAX_PAGE
from serving.decision_writer import DecisionWriter
from serving.decisions import Path, described
from serving.entities import EntityProfile, looked_up, stored
from serving.following import PARTITION, Follower, followers
from serving.log_writer import LogWriter
from serving.problems import Problem
from serving.profile_store import ProfileStore
from serving.profile_writer import FAILURES, ProfileWriter
from serving.profiles import KINDS
from serving.replies import Replies
from serving.schemas import PAYMENT_SCHEMA, DecisionAnswer, PaymentRequest
from serving.stores import opened

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
    """The application of these settings; it connects to broker and stores when it starts to serve."""
    store, decision_store = stored(settings), opened(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        replies = Replies(settings.api.index_records)
        writer = LogWriter(settings)
        end = End(settings, topics.topic_name(settings, topics.DECISIONS), PARTITION)
        profiles = ProfileWriter(store, end, settings.profiles.ttl_s, settings.profiles.max_entries)
        readers = await asyncio.to_thread(followers, settings, replies, profiles, loop)
        profiles.start(readers[0].position, readers[0].from_the_start)
        for reader in readers:
            reader.start()
        app.state.readers = readers
        app.state.decision_writer = decision_writer = DecisionWriter(settings, decision_store)
        decision_writer.start()
        digests = Digests(keys.source(settings).keyring())
        app.state.path = Path(writer, replies, digests, settings.api.decision_timeout_ms / 1000, socket.gethostname())
        yield
        for reader in readers:
            await asyncio.to_thread(reader.stop)
        await asyncio.to_thread(profiles.stop)
        await asyncio.to_thread(decision_writer.stop)
        await asyncio.to_thread(reads.close)
        store.close()
        await asyncio.to_thread(writer.close, settings.kafka.request_timeout_s)

    app = FastAPI(title="fraudlake", version=VERSION, summary="Decisions over payments, log first.", lifespan=lifespan)
    app.state.callers = callers(resolve(settings.keys.folder))
    app.state.store = store
    reads = Reads(decision_store, settings.decision_store.read_timeout_ms / 1000)
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

    @app.get(
        "/v1/decisions/{id}",
        tags=["decisions"],
        summary="What a payment was answered",
        responses=problems.documented(
            {
                401: "no known API key",
                403: "the key lacks a role",
                404: "no decision is known by that id",
                503: "it is not among the recent ones, and the store of older ones does not answer",
            }
        ),
    )
    async def find(
        request: Request,
        id: Annotated[str, UrlPart(description="a transaction_id, or a decision_id")],  # noqa: A002
        key: Key,
    ) -> DecisionAnswer:
        """The effective and the decided outcome: of a recent payment from memory, of older ones from the store."""
        authenticated(request, key, DECIDE)
        path: Path = request.app.state.path
        known = len(id) <= MAX_ID
        recent = path.replies.find(id) if known else None
        if recent is not None and recent.outcome is not None:
            return described(recent)
        try:
            found = await reads.one(id) if known else None
        except Problem:
            if recent is None:
                raise
            found = None
        if found is not None:
            return answer_of(found)
        if recent is not None:
            # Of a payment that is not decided yet, what the API answered.
            return described(recent)
        raise Problem(404, "No such decision", "Neither recent ones nor the store have it under that id.")

    @app.get(
        "/v1/cards/{token}/decisions",
        tags=["cards"],
        summary="The last decisions of a card",
        responses=problems.documented(
            {
                401: "no known API key",
                403: "the key lacks a role",
                422: "limit or before is wrong",
                503: "the store of decisions does not answer",
            }
        ),
    )
    async def card(
        request: Request,
        token: Annotated[str, UrlPart(description="the card's token as in the tables", max_length=MAX_ID)],
        key: Key,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="at most so many")] = 20,
        before: Annotated[str | None, Query(max_length=256, description="`next` of the page before")] = None,
    ) -> CardDecisions:
        """Newest first, by the engine's order; `next` leads to older ones. A card that never paid has none."""
        authenticated(request, key, DECIDE)
        found = await reads.page(token, limit, place(before))
        return presented(found, limit, request.app.state.decision_writer.behind)

    @app.get(
        "/v1/entities/{kind}/{token:path}",
        tags=["entities"],
        summary="The features of an entity at its last payment",
        responses=problems.documented(
            {
                401: "no known API key",
                403: "the key lacks a role",
                404: "no profile, and why; or no such kind of entity",
                503: "the profile store does not answer",
            }
        ),
    )
    def entity(
        request: Request,
        kind: Annotated[str, UrlPart(description="the kind of entity", json_schema_extra={"enum": list(KINDS)})],
        token: Annotated[str, UrlPart(description="its token as in the tables; of a merchant, its id")],
        key: Key,
    ) -> EntityProfile:
        """Its values and windows as of its last decided payment, kept for `profiles.ttl_s`; a stale one says so."""
        authenticated(request, key, DECIDE)
        if kind not in KINDS:
            raise Problem(404, "No such kind of entity", f"There are {', '.join(KINDS)}.")
        profiles: ProfileStore = request.app.state.store
        try:
            found = looked_up(profiles, settings.profiles, kind, token)
        except StoreUnavailable as error:
            FAILURES.labels("read").inc()
            raise Problem(503, "Profiles cannot be read", f"{error} Decisions go on without it.") from None
        if found.status == "missing":
            raise Problem(404, "No profile", found.reason)
        return found

    @app.get("/health/live", tags=["operations"], summary="The process runs")
    async def live() -> dict[str, str]:
        """Always ok while the process can answer."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["operations"], summary="The replica has read what it needs")
    async def ready(request: Request) -> Response:
        """503 until both readers have reached what was there at the start, when one has ended, or over a key's age."""
        if why := key_age.checked(settings):
            return problems.answer(503, "Not ready", why)
        readers: list[Follower] = request.app.state.readers
        if all(reader.caught_up for reader in readers):
            return Response('{"status":"ok"}', media_type="application/json")
        failed = next((reader.failed for reader in readers if reader.failed), "still reading")
        return problems.answer(503, "Not ready", failed)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics() -> Response:
        """Prometheus text format."""
        key_age.checked(settings)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
