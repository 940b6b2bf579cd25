"""The pages, served from the package itself: they work with no internet, and nothing of them is inline."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
# Swagger UI's style sheet carries its icons as data: URLs; that is all it needs beyond the rest.
DOCS_POLICY = f"{POLICY}; img-src 'self' data:"


def page(name: str, policy: str = POLICY) -> FileResponse:
    """A page of this package, which loads from nowhere else."""
    return FileResponse(STATIC / name, headers={"Content-Security-Policy": policy})


def mount(app: FastAPI) -> None:
    """Serve `/`, `/docs` and their files on `app`, which must not have a documentation page of its own."""
    if app.docs_url is not None:
        raise ValueError("create the application with docs_url=None: /docs is served from the package")

    @app.get("/", include_in_schema=False)
    def landing() -> FileResponse:
        return page("index.html")

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return page("docs.html", DOCS_POLICY)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
