"""Answers: JSON by the one encoder, problems as RFC 9457 has them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from ntkengine.errors import EngineError
from service.encoding import dumps
from service.errors import BY_STATUS, ServiceError, from_engine, invalid
from service.routes.documentation import PROBLEM_JSON

logger = logging.getLogger(__name__)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(dumps(value), status, headers, media_type="application/json")


def problem_response(request: Request, error: ServiceError) -> Response:
    """The answer to a request that met `error`."""
    request_id = getattr(request.state, "request_id", "")
    problem = error.problem(request_id)
    body = dumps(problem.model_dump(mode="json", exclude_none=True))
    headers = {"X-Request-ID": request_id, **(error.headers or {})}
    return Response(body, problem.status, headers, media_type=PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Have every failure that was foreseen answered with a problem; for others see `Observed`."""

    @app.exception_handler(ServiceError)
    def service_error(request: Request, error: ServiceError) -> Response:
        return problem_response(request, error)

    @app.exception_handler(OperationalError)
    def database_error(request: Request, error: OperationalError) -> Response:
        logger.warning("the database cannot be used: %s", error)
        later = {"Retry-After": "2"}
        unavailable = ServiceError("unavailable", "The database does not answer now.", headers=later)
        return problem_response(request, unavailable)

    @app.exception_handler(EngineError)
    def engine_error(request: Request, error: EngineError) -> Response:
        return problem_response(request, from_engine(error))

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request, invalid(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        kind = BY_STATUS.get(error.status_code, "internal")
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return problem_response(request, ServiceError(kind, detail, headers=error.headers))
