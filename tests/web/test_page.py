"""The page, used as people use it: by clicks and keys in a real browser, on a real service."""

import csv
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.web.command import announced_address, ntk
from tests.web.conftest import DESKTOP, Visit
from tests.web.saved import SVG, drawing

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PHONE = (360, 740)
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}

# Some seconds of work in many small steps, so that the server can be killed in the middle of it.
LONG_RUN: dict[str, Any] = {
    "model": {
        "layers": [
            {"kind": "dense", "width": 200},
            {"kind": "relu"},
            {"kind": "dense", "width": 200},
            {"kind": "relu"},
            {"kind": "dense", "width": 1},
        ]
    },
    "data": {"x": [[-1.0], [0.2], [1.0]], "y": [[1.0], [0.0], [1.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.001, "steps": 600},
    "record": [
        {"what": "loss", "schedule": {"kind": "every", "steps": 2}},
        {"what": "kernel", "schedule": {"kind": "every", "steps": 2}},
    ],
}
POINTS = 301


@pytest.fixture(scope="module")
def finished(service: str) -> str:
    """The id of a run of the first experiment."""
    name = httpx.get(f"{service}/experiments").json()["experiments"][0]["name"]
    run = httpx.post(f"{service}/runs", json={"experiment": name}).json()
    list(httpx.get(f"{service}{run['links']['events']}", timeout=60).iter_lines())
    return str(run["id"])


def points(page: Page) -> int:
    return int(page.get_attribute(".charts", "data-points") or 0)


def wait_for_points(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => Number(document.querySelector('.charts')?.dataset.points) >= count",
        arg=count,
        timeout=60_000,
    )


def saved_table(page: Page, title: str) -> list[dict[str, float]]:
    with page.expect_download() as download:
        page.get_by_label(f"{title} as CSV", exact=True).click()
    rows = csv.DictReader(Path(download.value.path()).read_text().splitlines())
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def test_an_experiment_is_run_watched_and_scrubbed(page: Page, service: str) -> None:
    page.goto("/")
    page.get_by_role("button", name="Run: One quadratic neuron from w = 1, b = 0.5, v = 2").click()
    wait_for_points(page, 1)
    expect(page.locator(".badge", has_text="converged")).to_be_visible(timeout=30_000)

    slider = page.get_by_role("slider", name="Time")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".scrubber output")).to_have_text("t = 0")
    heat_map = page.get_by_role("img", name="Kernel: 2 rows, 2 columns")
    heat_map.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".reading", has_text="x 0, x′ 0")).to_contain_text("77.0625")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".reading", has_text="x 0, x′ 0")).to_contain_text("15.53204")

    page.keyboard.press("Home")
    plane = page.get_by_role("img", name="Weight plane")
    expect(plane).to_have_accessible_name("Weight plane: w (input) across, v (output) up; now at (1, 2)")
    expect(page.locator("figure", has=plane)).to_contain_text("direction in which the loss falls")
    lines = [path.get("d", "") for path in drawing(page, "Weight plane").iter(f"{SVG}path")]
    assert len([line for line in lines if line.count("L") > 20]) >= 2  # the path, and the set of solutions
    page.wait_for_url("**t=0")
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    expect(page.locator(".scrubber output")).to_have_text("t = 0")


def test_the_predicted_function_is_that_of_the_service(page: Page, finished: str) -> None:
    """On the training points the kernel's prediction ends at the targets, as the network does."""
    page.goto(f"/#/runs/{finished}")
    figure = page.locator("figure", has_text="Learned function")
    expect(figure).to_contain_text("two standard deviations")
    expect(figure).to_contain_text("kernel at the start of this network")
    rows = {row["x"]: row for row in saved_table(page, "Learned function")}
    for x in (1.0, -1.0):
        assert rows[x]["network"] == pytest.approx(1.0, abs=1e-6)
        assert rows[x]["training points"] == 1.0


class Server:
    """A service that can be killed, and started again on the same data and port."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._stack = ExitStack()
        self._port = "0"
        self.start()

    def start(self) -> None:
        arguments = ("serve", "--port", self._port, "--data-dir", str(self._data_dir))
        self._process: subprocess.Popen[str] = self._stack.enter_context(ntk(*arguments))
        self.address = announced_address(self._process)
        self._port = self.address.rpartition(":")[2]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.mark.faults
@pytest.mark.long
def test_a_killed_server_leaves_neither_gap_nor_duplicate(server: Server, visit: Visit) -> None:
    run = httpx.post(f"{server.address}/runs", json=LONG_RUN).json()
    with visit(server.address) as (page, watch):
        page.goto(f"/#/runs/{run['id']}")
        wait_for_points(page, 5)
        page.reload()  # now some points come with the run itself, and those after them by the stream
        wait_for_points(page, 5)
        before = points(page)
        watch.service_is_down = True
        server.kill()
        expect(page.locator(".banner")).to_contain_text("The connection is lost")
        assert not httpx_answers(server.address)
        server.start()
        expect(page.locator(".banner")).to_be_hidden(timeout=30_000)
        watch.service_is_down = False
        expect(page.locator(".badge", has_text="ended")).to_be_visible(timeout=60_000)
        shown = saved_table(page, "Loss")
    stored = httpx.get(f"{server.address}/runs/{run['id']}").json()
    loss = stored["series"]["loss"]
    assert stored["status"] == "succeeded"
    assert before < len(shown) == POINTS
    assert [row["training time t"] for row in shown] == loss["time"]
    assert [row["training"] for row in shown] == loss["value"]


def httpx_answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_views_fit_without_barriers(
    visit: Visit, service: str, finished: str, size: tuple[int, int], scheme: str
) -> None:
    views = {"#/": ".experiment", "#/runs": "tbody tr", f"#/runs/{finished}": "canvas.plane"}
    with visit(service, size, scheme) as (page, _):
        for address, shown in views.items():
            page.goto(f"/{address}")
            page.wait_for_selector(shown)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{address} scrolls by {wide} pixels"
            assert barriers(page) == [], address


def barriers(page: Page) -> list[str]:
    """What axe-core finds; the page's policy holds for it, so that it is added by the debugger's own door."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


def test_a_wrong_address_says_so_and_leads_back(page: Page) -> None:
    page.goto("/#/nowhere")
    page.get_by_role("link", name="Go to the experiments").click()
    page.wait_for_selector(".experiment")


def test_what_does_not_fit_is_explained(visit: Visit, service: str) -> None:
    with visit(service) as (page, watch):
        page.goto("/#/runs/AAAAAAAAAAAAAAAAAAAAAA")
        expect(page.get_by_role("alert")).to_contain_text("There is nothing here")
        assert watch.complaints
        watch.complaints.clear()


def test_many_points_are_drawn_and_scrubbed(page: Page, service: str) -> None:
    """A run's 100,000 points, served in its place: the chart takes them all, and the slider reaches them."""
    count = 100_000
    times = [i / count for i in range(count)]
    series = {"step": [None] * count, "time": times, "shape": [count], "value": [1.0 - t for t in times],
              "total": count, "every": 1, "thinned": False}  # fmt: skip
    run = httpx.post(f"{service}/runs", json={"experiment": "quadratic_one_neuron"}).json()
    list(httpx.get(f"{service}{run['links']['events']}", timeout=60).iter_lines())
    view = httpx.get(f"{service}/runs/{run['id']}").json() | {"series": {"loss": series}}
    page.route(f"**/runs/{run['id']}?max_points*", lambda route: route.fulfill(body=json.dumps(view)))
    page.goto(f"/#/runs/{run['id']}")
    wait_for_points(page, count)
    page.get_by_role("slider", name="Time").focus()
    page.keyboard.press("Home")
    expect(page.locator(".scrubber output")).to_have_text("t = 0")
    expect(page.locator(".legend", has_text="training")).to_contain_text("1")
    assert len(saved_table(page, "Loss")) == count
