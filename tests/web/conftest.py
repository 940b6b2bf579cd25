"""A real service on a free port, and a real browser."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.web.command import announced_address, ntk

# Chromium needs no sandbox for pages of ours, and shall not call home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = (1280, 900)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `service` keeps its data."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def service(data_dir: Path) -> Iterator[str]:
    """The address of a service started as a user starts it."""
    with ntk("serve", "--port", "0", "--data-dir", str(data_dir)) as process:
        yield announced_address(process)
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("NO CHROMIUM: the pages are not tested. scripts/system_packages.sh installs it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


class Watch:
    """What a page complains of, and what it asks of others."""

    def __init__(self, page: Page, service: str) -> None:
        self.complaints: list[str] = []
        self.service_is_down = False
        self.refused_on_purpose = False
        page.on("console", lambda message: self._said(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: None if is_from(service, asked.url) else self._said(asked.url))
        page.on("response", lambda got: self._said(f"{got.status} {got.url}") if got.status >= 400 else None)

    def _said(self, text: str) -> None:
        # Chromium itself reports that nobody answers, or that a request was refused, sooner or later; that is
        # only in order where nobody can answer, or where the test asks for what is wrong.
        if (self.service_is_down and "net::ERR_" in text) or (self.refused_on_purpose and "422" in text):
            return
        self.complaints.append(text)


def is_from(service: str, url: str) -> bool:
    """Whether an address is the service's, or inside of the page."""
    return url.startswith((f"{service}/", "data:", f"blob:{service}/"))


Visit = Callable[..., AbstractContextManager[tuple[Page, Watch]]]


@pytest.fixture
def visit(browser: Browser) -> Visit:
    """Open pages that must load from their service alone and leave nothing on the console."""

    @contextmanager
    def opened(
        service: str, size: tuple[int, int] = DESKTOP, scheme: Literal["light", "dark"] = "light"
    ) -> Iterator[tuple[Page, Watch]]:
        width, height = size
        context = browser.new_context(
            base_url=service, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        page = context.new_page()
        watch = Watch(page, service)
        yield page, watch
        context.close()
        assert watch.complaints == []

    return opened


@pytest.fixture
def page(visit: Visit, service: str) -> Iterator[Page]:
    """A page of `service`."""
    with visit(service) as (page, _):
        yield page
