"""PUT, GET and DELETE /reference-sets/{id}: the references of an album or a video, uploaded once."""

import time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from service.connection import answer_in_time, deadline_of, upload_of
from service.form import FormLimits
from service.keys import KEY_SCHEMES, authenticate
from service.openapi import (
    ANY_PROBLEM,
    REFERENCE_SET_BODY,
    UPLOAD_PARAMETERS,
    UPLOAD_PROBLEMS,
    answers,
    problem_responses,
)
from service.options import SET_ID
from service.problems import INVALID_REQUEST, REFERENCE_SET_NOT_FOUND, UNAUTHORIZED, Problem
from service.reference_sets import ReferenceSet, check_name
from service.request_scope import context_of
from service.state import Service, service_of

router = APIRouter(prefix="/reference-sets", dependencies=KEY_SCHEMES)

SetId = Annotated[
    str,
    Path(
        description="1 to 64 letters, digits, dots, dashes or underscores, but not `.` or `..`.",
        # Said, but not checked by FastAPI: `check_name` does, in words.
        json_schema_extra={"pattern": SET_ID},
    ),
]
_LOOKUP_PROBLEMS = problem_responses(INVALID_REQUEST, UNAUTHORIZED, REFERENCE_SET_NOT_FOUND) | ANY_PROBLEM


class ReferenceSetDocument(BaseModel):
    """A reference set; it is forgotten `ttl_seconds` after its last use."""

    id: str
    references: int = Field(description="How many it holds; a file given several times is kept once.")
    age_seconds: float
    ttl_seconds: float


_EXAMPLE = answers(ReferenceSetDocument(id="grandmother", references=2, age_seconds=12.5, ttl_seconds=3600.0))


def _document(service: Service, name: str, entry: ReferenceSet) -> ReferenceSetDocument:
    age, ttl = round(time.time() - entry.created, 3), service.settings.reference_set_ttl_s
    return ReferenceSetDocument(id=name, references=len(entry.references), age_seconds=age, ttl_seconds=ttl)


@router.put(
    "/{id}",
    summary="Upload references under a name",
    responses=_EXAMPLE | problem_responses(*UPLOAD_PROBLEMS),
    openapi_extra={"requestBody": REFERENCE_SET_BODY, "parameters": UPLOAD_PARAMETERS},
)
async def put(request: Request, id: SetId) -> ReferenceSetDocument:
    """Analyses `references` and keeps them, in memory only, in the place of an older set of this name.

    A file that is given several times is kept once.
    """
    service, context = service_of(request), context_of(request)
    settings = service.settings
    async with upload_of(request) as upload:
        owner = context.owner = authenticate(request, settings.api_keys)
        name = check_name(id)
        deadline = deadline_of(request, settings.timeout_s)
        service.pipeline.check_ready()
        limits = FormLimits(
            settings.max_file_bytes, settings.max_request_bytes, {"references": settings.max_references}, frozenset()
        )
        with service.admission.admit(deadline) as ticket:
            receive = partial(service.admission.receive, ticket)
            form = await upload.read_form(limits, deadline, settings.upload_idle_s, receive)
            service.admission.start(ticket, deadline)
            files = form.files.get("references", [])
            if not files:
                raise Problem(INVALID_REQUEST, "the form has no file 'references'")
            analysed = await answer_in_time(request, service.pipeline.analyse(context, files), deadline)
            # Only now, so that what is wrong with a file is told with its place among those sent.
            references = list(dict(zip(files, analysed, strict=True)).values())
    context.fields["references"] = len(references)
    return _document(service, name, await service.references.put(owner, name, references))


@router.get("/{id}", summary="Look at a reference set", responses=_EXAMPLE | _LOOKUP_PROBLEMS)
async def get(request: Request, id: SetId) -> ReferenceSetDocument:
    """Tells whether a set is there; that counts as a use."""
    service = service_of(request)
    owner = authenticate(request, service.settings.api_keys)
    return _document(service, id, await service.references.get(owner, id))


@router.delete("/{id}", summary="Forget a reference set", status_code=204, responses=_LOOKUP_PROBLEMS)
async def delete(request: Request, id: SetId) -> Response:
    """Forgets a set at once."""
    service = service_of(request)
    await service.references.remove(authenticate(request, service.settings.api_keys), id)
    return Response(status_code=204)
