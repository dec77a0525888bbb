"""What surrounds every request: its id, its clock, its log line, its metrics, and the last resort for an error."""

import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import event, logger
from service.metrics import STAGES, Metrics
from service.problems import INTERNAL, Problem

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_PROBES = ("/livez", "/readyz", "/startupz")
CLIENT_CLOSED = 499  # logged and counted when the client left before its answer; it is never sent


@dataclass
class RequestContext:
    """A request's id, its start by time.monotonic(), seconds by stage, counts for its log line, whose it is
    (`keys.authenticate`), and the status that it was answered with."""

    id: str
    started: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    fields: dict[str, object] = field(default_factory=dict)
    owner: str = ""
    status: int = CLIENT_CLOSED

    def spend(self, stage: str, seconds: float) -> None:
        """Adds to a stage's time."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def server_timing(self) -> str:
        """The Server-Timing header: milliseconds by stage, in the order of the stages."""
        return ", ".join(f"{stage};dur={self.stages[stage] * 1000:.1f}" for stage in STAGES if stage in self.stages)


def context_of(request: Request) -> RequestContext:
    """The context that the middleware gave a request."""
    context = request.state.context
    assert isinstance(context, RequestContext)
    return context


def context_in(scope: Scope) -> RequestContext:
    """The context of a request by its scope, which is given one where it has none."""
    context = scope.setdefault("state", {}).setdefault("context", RequestContext(_request_id(scope)))
    assert isinstance(context, RequestContext)
    return context


class RequestScope:
    """ASGI middleware: X-Request-Id on every answer, a log line and a count a request, a problem for any exception."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_in(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                if context.status == CLIENT_CLOSED:  # else the protocol has answered (service.strict_http)
                    context.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", context.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            self._metrics.dropped("disconnected")
        except Exception:
            logger.exception("unhandled error", extra={"fields": {"request_id": context.id}})
            if context.status != CLIENT_CLOSED:
                raise  # the answer has begun: only closing the connection can tell the client now
            problem = Problem(INTERNAL, "the error is logged under this request's id")
            await problem.response(context.id)(scope, receive, send_with_id)
        finally:
            account(self._metrics, scope, context)


def account(metrics: Metrics, scope: Scope, context: RequestContext) -> None:
    """Counts and logs a request that has ended."""
    seconds = time.monotonic() - context.started
    route = _route(scope)
    method = scope["method"] if scope["method"] in _METHODS else "other"
    metrics.requests.labels(route, method, str(context.status)).inc()
    metrics.request_seconds.labels(route, str(context.status)).observe(seconds)
    for stage, spent in context.stages.items():
        metrics.stage_seconds.labels(stage).observe(spent)
    # Probes and scrapes would drown the log; a probe's 503 is an answer, and the state itself is logged.
    told = route in ("/restore", "/reference-sets/{id}") or (context.status >= 400 and route not in _PROBES)
    level = logging.INFO if told else logging.DEBUG
    stages = {f"{stage}_s": round(spent, 4) for stage, spent in context.stages.items()}
    event(
        "request",
        level,
        request_id=context.id,
        method=method,
        route=route,
        status=context.status,
        seconds=round(seconds, 4),
        **stages,
        **context.fields,
    )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(given := value.decode("latin-1")):
            return str(given)
    return uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The route's template: paths themselves would be unbounded and may name people."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "other"))
