"""The pages as a browser shows them, with nothing from elsewhere."""

import json

import httpx
import pytest
from playwright.sync_api import Page

from service.cli import FIRST_KERNEL


@pytest.mark.browser
def test_docs_show_every_operation(page: Page, service: str) -> None:
    paths = httpx.get(f"{service}/openapi.json").json()["paths"]
    page.goto("/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() == sum(len(operations) for operations in paths.values())


@pytest.mark.browser
def test_docs_try_an_operation(page: Page) -> None:
    page.goto("/docs")
    operation = page.locator(".opblock", has_text="/version")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    status = operation.locator(".live-responses-table tbody .response-col_status").first
    assert status.inner_text().startswith("200")


@pytest.mark.browser
def test_the_first_page_leads_on(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector(".experiment")
    page.click("text=API")
    page.wait_for_selector(".opblock")


@pytest.mark.browser
def test_the_first_page_shows_the_first_kernel_of_the_command_line(page: Page, service: str) -> None:
    page.goto("/")
    command, _, body = page.inner_text(".terminal code").partition("-d '")
    assert command.startswith(f"curl {service}/kernel ")
    assert json.loads(body.partition("'")[0]) == FIRST_KERNEL


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_may_load_from_nowhere_else(service: str, path: str) -> None:
    answer = httpx.get(f"{service}{path}")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "style=" not in answer.text
    assert "<style" not in answer.text
    assert "<script>" not in answer.text
