"""What people save from the page."""

from pathlib import Path
from xml.etree import ElementTree as ET

from playwright.sync_api import Page

SVG = "{http://www.w3.org/2000/svg}"


def drawing(page: Page, title: str) -> ET.Element:
    """A figure as SVG."""
    with page.expect_download() as download:
        page.get_by_label(f"{title} as SVG", exact=True).click()
    root = ET.fromstring(Path(download.value.path()).read_text())  # noqa: S314 our own page's
    assert root.tag == f"{SVG}svg"
    return root
