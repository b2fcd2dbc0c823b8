"""GET /v1/cards/{token}/decisions and GET /v1/entities/{kind}/{token}."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as UrlPart

from lakehouse.errors import StoreUnavailable
from serving import problems
from serving.auth import DECIDE, READ, Allowed, Caller
from serving.cards import CardDecisions, place, presented
from serving.decision_store import MAX_PAGE
from serving.entities import EntityProfile, looked_up
from serving.problems import Problem
from serving.profile_store import ProfileStore
from serving.profile_writer import FAILURES
from serving.profiles import KINDS
from serving.replica import MAX_ID, replica

router = APIRouter()


@router.get(
    "/v1/cards/{token}/decisions",
    tags=["cards"],
    summary="The last decisions of a card",
    responses=problems.documented(
        {
            **problems.DENIED,
            422: "limit or before is wrong",
            503: "the store of decisions does not answer",
        }
    ),
)
async def card(
    request: Request,
    token: Annotated[str, UrlPart(description="the card's token as in the tables", max_length=MAX_ID)],
    _: Annotated[Caller, Depends(Allowed(READ, DECIDE))],
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="at most so many")] = 20,
    before: Annotated[str | None, Query(max_length=256, description="`next` of the page before")] = None,
) -> CardDecisions:
    """Newest first, by the engine's order; `next` leads to older ones. A card that never paid has none."""
    found = await request.app.state.reads.page(token, limit, place(before))
    return presented(found, limit, replica(request).decision_writer.behind)


@router.get(
    "/v1/entities/{kind}/{token:path}",
    tags=["entities"],
    summary="The features of an entity at its last payment",
    responses=problems.documented(
        {
            **problems.DENIED,
            **problems.ADDRESS,
            404: "no profile, and why; or no such kind of entity",
            503: "the profile store does not answer",
        }
    ),
)
def entity(
    request: Request,
    kind: Annotated[str, UrlPart(description="the kind of entity", json_schema_extra={"enum": list(KINDS)})],
    token: Annotated[str, UrlPart(description="its token as in the tables; of a merchant, its id")],
    _: Annotated[Caller, Depends(Allowed(READ, DECIDE))],
) -> EntityProfile:
    """Its values and windows as of its last decided payment, kept for `profiles.ttl_s`; a stale one says so."""
    if kind not in KINDS:
        raise Problem(404, "No such kind of entity", f"There are {', '.join(KINDS)}.")
    profiles: ProfileStore = request.app.state.store
    try:
        found = looked_up(profiles, request.app.state.settings.profiles, kind, token)
    except StoreUnavailable as error:
        FAILURES.labels("read").inc()
        raise Problem(503, "Profiles cannot be read", f"{error} Decisions go on without it.") from None
    if found.status == "missing":
        raise Problem(404, "No profile", found.reason)
    return found
