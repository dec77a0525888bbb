"""What operators and their machines ask: models, health, probes and metrics."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from service.engine import ModelInfo
from service.keys import KEY_SCHEMES, authenticate
from service.openapi import answers, problem_responses
from service.problems import NOT_READY, UNAUTHORIZED
from service.state import Status, service_of

router = APIRouter()


class Models(BaseModel):
    """The models that this service answers with."""

    models: list[ModelInfo]


class Limits(BaseModel):
    """What a client should know before it uploads."""

    file_bytes: int = Field(description="Of a picture.")
    request_bytes: int = Field(description="Of a whole form.")
    megapixels: float = Field(description="Of a picture, and of what comes back.")
    references: int = Field(description="Of a request or a reference set.")
    faces: int = Field(description="Restored in one picture.")
    timeout_seconds: float = Field(description="The longest that X-Request-Timeout may ask.")


class Health(BaseModel):
    """A summary for people and dashboards."""

    status: Status
    requests_in_progress: int
    faces_waiting: int = Field(description="Faces in the device's queue.")
    estimated_wait_seconds: float
    seconds_per_face: float
    api_key_required: bool
    limits: Limits


_PROBE = answers("ok", "text/plain") | {503: {"content": {"text/plain": {"example": "no"}}}}
_MODELS = Models(
    models=[ModelInfo("honestface-tiny", "0.22.0", "tiny", "cpu", "float32", {"unet.safetensors": "9f86d081" * 8})]
)
_HEALTH = Health(
    status="ready",
    requests_in_progress=2,
    faces_waiting=1,
    estimated_wait_seconds=0.3,
    seconds_per_face=0.1,
    api_key_required=False,
    limits=Limits(
        file_bytes=20_000_000,
        request_bytes=64_000_000,
        megapixels=64.0,
        references=16,
        faces=32,
        timeout_seconds=60.0,
    ),
)
_METRICS = """# HELP honestface_faces_total Faces restored.
# TYPE honestface_faces_total counter
honestface_faces_total 3.0
"""


@router.get(
    "/models",
    summary="What is served",
    responses=answers(_MODELS) | problem_responses(UNAUTHORIZED, NOT_READY),
    dependencies=KEY_SCHEMES,
)
async def models(request: Request) -> Models:
    """The loaded bundle with the checksums of its files."""
    service = service_of(request)
    authenticate(request, service.settings.api_keys)
    return Models(models=[service.pipeline.ready_engine.model])


@router.get("/health", summary="A summary", responses=answers(_HEALTH))
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


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses=answers(_METRICS, "text/plain"),
)
async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _probe(good: bool) -> PlainTextResponse:
    return PlainTextResponse("ok" if good else "no", 200 if good else 503)
