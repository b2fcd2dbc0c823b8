"""Health, metrics, and GET /v1/stats."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lakehouse import key_age
from serving import problems
from serving.auth import DECIDE, READ, Allowed, Caller
from serving.replica import replica
from serving.stats import HOUR_S, MINUTE_S, Stats

router = APIRouter(tags=["operations"])


@router.get("/health/live", summary="The process runs")
async def live() -> dict[str, str]:
    """Always ok while the process can answer."""
    return {"status": "ok"}


@router.get(
    "/health/ready",
    summary="The replica has read what it needs",
    responses=problems.documented({503: "it is still reading, a reader has ended, or a key is over its age"}),
)
async def ready(request: Request) -> Response:
    """503 until both readers have reached what was there at the start, when one has ended, or over a key's age."""
    if why := key_age.checked(request.app.state.settings):
        return problems.answer(503, "Not ready", why)
    readers = replica(request).readers
    if all(reader.caught_up for reader in readers):
        return Response('{"status":"ok"}', media_type="application/json")
    failed = next((reader.failed for reader in readers if reader.failed), "still reading")
    return problems.answer(503, "Not ready", failed)


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    key_age.checked(request.app.state.settings)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/stats", summary="What was decided lately", responses=problems.documented(problems.DENIED))
async def stats(request: Request, _: Annotated[Caller, Depends(Allowed(READ, DECIDE))]) -> Stats:
    """Outcomes of the last minute and hour, as far as this replica has read the topics, and how far that is."""
    own, now_s = replica(request), time.time()
    return Stats(
        host=own.host,
        caught_up=all(reader.caught_up for reader in own.readers),
        in_spool=own.spooling.spool.records,
        last_minute=own.seen.window(MINUTE_S, now_s),
        last_hour=own.seen.window(HOUR_S, now_s),
    )
