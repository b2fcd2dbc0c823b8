"""The FastAPI application: its routes, one module a noun, and what they share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from lakehouse.settings import Settings, resolve
from lakehouse.version import VERSION
from serving import (
    problems,
    routes_control,
    routes_decisions,
    routes_entities,
    routes_feed,
    routes_labels,
    routes_operations,
    routes_tokens,
)
from serving.alerts import routes as routes_alerts
from serving.alerts import verify_page
from serving.alerts.desk import Desk
from serving.auth import callers
from serving.cards import Reads
from serving.entities import stored
from serving.feed import Feed
from serving.guard import Guard
from serving.limits import Limits
from serving.replica import Replica
from serving.stores import opened

ROUTES = (
    routes_decisions,
    routes_entities,
    routes_labels,
    routes_control,
    routes_tokens,
    routes_feed,
    routes_operations,
    routes_alerts,
    verify_page,
)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def described_app(lifespan: Lifespan | None = None) -> FastAPI:
    """The interface: routes and their documents, without anything behind them."""
    app = FastAPI(title="fraudlake", version=VERSION, summary="Decisions over payments, log first.", lifespan=lifespan)
    problems.install(app)
    for module in ROUTES:
        app.include_router(module.router)
    return app


def create_app(settings: Settings) -> FastAPI:
    """The application of these settings; it connects to broker and stores when it starts to serve."""
    store, decision_store = stored(settings), opened(settings)
    reads = Reads(decision_store, settings.decision_store.read_timeout_ms / 1000)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        replica = await asyncio.to_thread(Replica, settings, store, decision_store, reads, app.state.feed, loop)
        await asyncio.to_thread(replica.start)
        app.state.replica = replica
        yield
        app.state.feed.end()
        await asyncio.to_thread(replica.stop)
        await asyncio.to_thread(reads.close)
        await app.state.limits.close()
        await asyncio.to_thread(app.state.desk.close)
        store.close()

    app = described_app(lifespan)
    app.state.settings, app.state.store, app.state.reads = settings, store, reads
    app.state.callers = callers(resolve(settings.keys.folder))
    app.state.limits, app.state.desk = Limits(settings), Desk(settings)
    app.state.feed = Feed(settings.feed.max_clients, settings.feed.queue_records)
    app.add_middleware(Guard, most_bytes=settings.api.body_limit_bytes)
    return app
