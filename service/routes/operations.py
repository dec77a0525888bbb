"""What operators and their machines ask: models, health, probes and metrics."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from service.engine import ModelInfo
from service.keys import KEY_SCHEMES, authenticate
from service.openapi import Responses, problem_responses
from service.problems import NOT_READY, UNAUTHORIZED
from service.state import Status, service_of

router = APIRouter()


class Models(BaseModel):
    """The models that this service answers with."""

    models: list[ModelInfo]


class Limits(BaseModel):
    """What a client should know before it uploads."""

    file_bytes: int = Field(examples=[20_000_000], description="Of a picture.")
    request_bytes: int = Field(examples=[64_000_000], description="Of a whole form.")
    megapixels: float = Field(examples=[64.0], description="Of a picture, and of what comes back.")
    references: int = Field(examples=[16], description="Of a request or a reference set.")
    faces: int = Field(examples=[32], description="Restored in one picture.")
    timeout_seconds: float = Field(examples=[60.0], description="The longest that X-Request-Timeout may ask.")


class Health(BaseModel):
    """A summary for people and dashboards."""

    status: Status
    requests_in_progress: int
    faces_waiting: int = Field(description="Faces in the device's queue.")
    estimated_wait_seconds: float
    seconds_per_face: float
    api_key_required: bool
    limits: Limits


_PROBE: Responses = {
    200: {"content": {"text/plain": {"example": "ok"}}},
    503: {"content": {"text/plain": {"example": "no"}}},
}


@router.get(
    "/models",
    summary="What is served",
    responses=problem_responses(UNAUTHORIZED, NOT_READY),
    dependencies=KEY_SCHEMES,
)
async def models(request: Request) -> Models:
    """The loaded bundle with the checksums of its files."""
    service = service_of(request)
    authenticate(request, service.settings.api_keys)
    return Models(models=[service.pipeline.ready_engine.model])


@router.get("/health", summary="A summary")
async def health(request: Request) -> Health:
    """How the service fares; it answers 200 as long as it answers."""
    service = service_of(request)
    settings, admission = service.settings, service.admission
    return Health(
        status=service.status,
        requests_in_progress=admission.requests,
        faces_waiting=service.pipeline.batcher.waiting,
        estimated_wait_seconds=round(admission.estimated_wait, 3),
        seconds_per_face=round(admission.throughput.seconds_per_face, 4),
        api_key_required=bool(settings.api_keys),
        limits=Limits(
            file_bytes=settings.max_file_bytes,
            request_bytes=settings.max_request_bytes,
            megapixels=settings.max_megapixels,
            references=settings.max_references,
            faces=settings.faces_a_picture,
            timeout_seconds=settings.timeout_s,
        ),
    )


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Liveness: restart on 503", response_class=PlainTextResponse, responses=_PROBE)
async def livez(request: Request) -> PlainTextResponse:
    """503 when the device thread has died, or it or a decoding thread has been silent for too long."""
    return _probe(service_of(request).alive)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Readiness: send no work on 503", response_class=PlainTextResponse, responses=_PROBE)
async def readyz(request: Request) -> PlainTextResponse:
    """503 until the bundle is loaded and warmed up, and again from SIGTERM on."""
    return _probe(service_of(request).ready)


@router.head("/startupz", include_in_schema=False)
@router.get("/startupz", summary="Startup: wait on 503", response_class=PlainTextResponse, responses=_PROBE)
async def startupz(request: Request) -> PlainTextResponse:
    """503 until the bundle is loaded and warmed up."""
    return _probe(service_of(request).started)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _probe(good: bool) -> PlainTextResponse:
    return PlainTextResponse("ok" if good else "no", 200 if good else 503)
