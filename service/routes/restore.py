"""POST /restore."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from models.references import Reference
from service.connection import answer_in_time, deadline_of, upload_of
from service.form import Form, FormLimits
from service.keys import KEY_SCHEMES, authenticate
from service.openapi import RESTORE_BODY, RESTORE_RESPONSES, UPLOAD_PARAMETERS
from service.options import OPTION_NAMES, RestoreOptions, negotiate, read_options
from service.problems import INVALID_OPTION, INVALID_REQUEST, Problem
from service.request_scope import context_of
from service.settings import Settings
from service.state import Service, service_of

router = APIRouter(dependencies=KEY_SCHEMES)


@router.post(
    "/restore",
    summary="Restore the faces of a picture",
    response_class=Response,
    responses=RESTORE_RESPONSES,
    openapi_extra={"requestBody": RESTORE_BODY, "parameters": UPLOAD_PARAMETERS},
)
async def restore(request: Request) -> Response:
    """Restores the faces of `image`, guided by `references` or a `reference_set`.

    By the Accept header the answer is the picture (`image/*`), a JSON document with the picture in base64 and the
    honesty report, or `multipart/mixed` with both as they are.
    """
    service, context = service_of(request), context_of(request)
    settings = service.settings
    async with upload_of(request) as upload:
        owner = context.owner = authenticate(request, settings.api_keys)
        if request.query_params:
            raise Problem(INVALID_REQUEST, "options are parts of the form, not of the address")
        wanted = negotiate(",".join(request.headers.getlist("accept")))
        deadline = deadline_of(request, settings.timeout_s)
        service.pipeline.check_ready()
        with service.admission.admit(deadline) as ticket:
            receive = partial(service.admission.receive, ticket)
            form = await upload.read_form(_limits(settings), deadline, settings.upload_idle_s, receive)
            service.admission.start(ticket, deadline)
            options = read_options(form)
            image, references = _image(form), await _references(form, options, service, owner)
            work = service.pipeline.restore(context, ticket, image, references, options, wanted, deadline)
            answer = await answer_in_time(request, work, deadline)
            ticket.finished = True
    context.fields.update(
        faces=answer.faces, references=len(references), bytes_in=len(image), bytes_out=len(answer.body)
    )
    headers = {"Server-Timing": context.server_timing(), "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(answer.body, headers=headers, media_type=answer.media_type)


def _limits(settings: Settings) -> FormLimits:
    files = {"image": 1, "references": settings.max_references}
    return FormLimits(settings.max_file_bytes, settings.max_request_bytes, files, OPTION_NAMES)


def _image(form: Form) -> bytes:
    if "image" not in form.files:
        raise Problem(INVALID_REQUEST, "the form has no file 'image'")
    return form.files["image"][0]


async def _references(form: Form, options: RestoreOptions, service: Service, owner: str) -> Sequence[bytes | Reference]:
    files = form.files.get("references", [])
    if options.reference_set is None:
        return files
    if files:
        raise Problem(INVALID_OPTION, "give either 'references' or a 'reference_set', not both")
    return (await service.references.get(owner, options.reference_set)).references
