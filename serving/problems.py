"""Errors as application/problem+json (RFC 9457); an answer never repeats what the request held."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

Model = TypeVar("Model", bound=BaseModel)

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success: `status`, a short `title`, and `detail` on what to do."""

    def __init__(self, status: int, title: str, detail: str, **more: object) -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.more = status, title, detail, more


def answer(status: int, title: str, detail: str, **more: object) -> JSONResponse:
    """The response of a problem."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=MEDIA_TYPE)


def documented(why: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Problems by status for the OpenAPI page."""
    return {status: {"description": text, "content": {MEDIA_TYPE: {}}} for status, text in why.items()}


def parsed(model: type[Model], body: bytes) -> Model:
    """A request's body, parsed and checked in one pass; RequestValidationError names the fields that are wrong."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from None


def install(app: FastAPI) -> None:
    """Let the app answer every error this way."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return answer(error.status, error.title, error.detail, **error.more)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Only places and reasons: the values may be card data.
        errors = [
            {"field": ".".join(str(part) for part in e["loc"] if part != "body") or "body", "reason": e["type"]}
            for e in error.errors()
        ]
        fields = ", ".join(sorted({str(e["field"]) for e in errors}))
        place = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
        title = "A part of the address is wrong" if place & {"query", "path"} else "The request is not a payment"
        return answer(422, title, f"Wrong or missing: {fields}.", errors=errors)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), "See /docs for what this API offers.")
