"""GET /: the playground, one page without a build step or any request to elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from service.problems import NOT_FOUND, Problem

_FOLDER = Path(__file__).parent.parent / "playground"
_PARTS = {path.name: path for path in _FOLDER.iterdir() if path.suffix in (".js", ".css")}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> FileResponse:
    """The page."""
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS)


@router.get("/playground/{name}")
async def part(name: str) -> FileResponse:
    """The page's scripts and style."""
    if name not in _PARTS:
        raise Problem(NOT_FOUND, "the page has no such part")
    return FileResponse(_PARTS[name], headers=_HEADERS)
