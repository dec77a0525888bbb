"""The ASGI application: routes, middleware, problem documents, and the service's life."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from service import problems
from service.engine import Engine
from service.metrics import Metrics
from service.problems import Problem
from service.reference_sets import ReferenceStore
from service.request_scope import RequestScope, context_of
from service.routes import operations, playground, reference_sets, restore
from service.settings import Settings
from service.state import Service

_KINDS = {404: problems.NOT_FOUND, 405: problems.METHOD_NOT_ALLOWED}


def create_app(
    settings: Settings,
    make_engine: Callable[[], Engine],
    make_references: Callable[[Settings, Metrics], ReferenceStore] = ReferenceStore,
) -> FastAPI:
    """The application; `make_engine` is called on the device thread when the application starts."""
    service = Service(settings, make_engine, make_references)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # The usual pages of the documentation load scripts from outside; /openapi.json serves any viewer.
    app = FastAPI(
        title="HonestFace",
        version=version("honestface"),
        summary="Face restoration that stays true to the person.",
        lifespan=lifespan,
        redirect_slashes=False,  # to an address of the client's own making: the Host header's
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for module in (restore, reference_sets, operations, playground):
        app.include_router(module.router)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-Id", "X-Request-Timeout"],
            expose_headers=["Server-Timing", "X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestScope, metrics=service.metrics)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(context_of(request).id)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, problems.INVALID_REQUEST)
    response = Problem(kind, kind.title).response(context_of(request).id)
    response.headers.update(error.headers or {})
    if kind is problems.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """The methods of all routes that have the request's path: the router names those of the first alone."""
    routes = iter_route_contexts(request.app.routes)
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in matching for method in route.methods or ()}


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = "; ".join(str(each["msg"]) for each in error.errors())
    return Problem(problems.INVALID_REQUEST, detail).response(context_of(request).id)
