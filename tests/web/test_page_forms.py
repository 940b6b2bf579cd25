"""What is composed, computed, reported and compared on the page, held to the service and to numpy."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from ntkengine.analysis import fit_exponent
from service.web import STATIC
from tests.compare import assert_close
from tests.web.conftest import DESKTOP, Visit
from tests.web.saved import SVG, drawing
from tests.web.test_page import PHONE, barriers

pytestmark = pytest.mark.browser

SMALL: dict[str, Any] = {
    "model": {"layers": [{"kind": "dense", "width": 8}, {"kind": "tanh"}, {"kind": "dense", "width": 1}]},
    "data": {"x": [[-1.0], [0.5]], "y": [[0.5], [1.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 20},
    "record": [{"what": "loss"}],
}
QUADRATIC: dict[str, Any] = {
    "model": {
        "layers": [{"kind": "dense", "b_std": 1.0}, {"kind": "quadratic"}, {"kind": "dense", "width": 1}]
    },
    "x1": [[1.0], [-0.5], [0.25]],
    "of": {"kind": "infinite"},
}
REPORT = json.loads((Path(__file__).parent / "regime_report.json").read_text())  # of the engine, once
WIDTHS = (4, 32)
PATIENCE_MS = 30_000  # a process that loads torch on a busy machine


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Wait for what is expected as long as for all else."""
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=5_000)


def opened(page: Page, view: str, spec: dict[str, Any]) -> None:
    page.goto(f"/#/{view}?spec={quote(json.dumps(spec))}")
    expect(page.locator("form.spec")).to_be_visible()


def field(page: Page, pointer: str) -> Locator:
    return page.locator(f'[id="field{pointer}"]')


def shown_code(page: Page, language: str) -> str:
    page.get_by_role("button", name=language, exact=True).click()
    return page.locator(".programs code").inner_text()


def table(page: Page, title: str) -> dict[str, list[float | None]]:
    """The numbers of a chart, as it saves them."""
    with page.expect_download() as download:
        page.get_by_label(f"{title} as CSV", exact=True).click()
    rows = list(csv.reader(Path(download.value.path()).read_text().splitlines()))
    columns = zip(*rows, strict=True)
    return {name: [float(cell) if cell else None for cell in cells] for name, *cells in columns}


def run_ended(service: str, spec: dict[str, Any]) -> str:
    run = httpx.post(f"{service}/runs", json=spec).raise_for_status().json()
    list(httpx.get(f"{service}{run['links']['events']}", timeout=60).iter_lines())
    return str(run["id"])


def test_a_network_is_composed_by_clicking_and_run(page: Page, service: str) -> None:
    page.goto("/#/compose")
    field(page, "/data/x").fill("a, b\n-1.0, 0.5\n1.0; 2")
    field(page, "/data/y").fill("[[0.5], [1]]")
    page.get_by_label("How x_test is given").select_option("")
    field(page, "/model/layers/0/width").fill("12")
    field(page, "/model/layers/1").select_option("tanh")
    page.get_by_label("Add a layer to /model/layers", exact=True).select_option("parallel")
    page.get_by_label("Add a layer to /model/layers/3/branches").select_option("erf")
    page.get_by_label("Remove layer 1", exact=True).nth(1).click()  # of the branches
    page.get_by_label("Move layer 4 up").click()
    page.get_by_label("Remove record 5").click()
    page.get_by_label("Remove record 4").click()
    page.get_by_label("Add a record to /record").select_option("spectrum")
    field(page, "/training").select_option("gradient_flow")
    field(page, "/training/t_end").fill("1.5")
    field(page, "/seeds").fill("3, 4")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/#/runs/*")
    spec = httpx.get(f"{service}/runs/{page.url.rpartition('/')[2]}").json()["spec"]
    layers = [(layer["kind"], layer.get("width")) for layer in spec["model"]["layers"]]
    assert layers == [("dense", 12), ("tanh", None), ("parallel", None), ("dense", 1)]
    branches = spec["model"]["layers"][2]["branches"]
    assert [branch["kind"] for branch in branches] == ["relu", "erf"]
    assert spec["data"]["x"] == [[-1.0, 0.5], [1.0, 2.0]]  # without the names of the columns
    assert spec["data"]["y"] == [[0.5], [1.0]]
    assert spec["data"]["x_test"] is None
    assert (spec["training"]["kind"], spec["training"]["t_end"]) == ("gradient_flow", 1.5)
    assert [record["what"] for record in spec["record"]] == ["loss", "outputs", "kernel", "spectrum"]
    assert spec["seeds"] == [3, 4]


def test_what_is_wrong_is_said_at_its_field_in_the_words_of_the_service(visit: Visit, service: str) -> None:
    with visit(service) as (page, watch):
        watch.refused_on_purpose = True
        opened(page, "compose", SMALL)
        field(page, "/model/layers/0/width").fill("-3")  # found by the estimate, as one types
        wrong = {
            **SMALL,
            "model": {"layers": [{"kind": "dense", "width": -3}, *SMALL["model"]["layers"][1:]]},
        }
        (offence,) = httpx.post(f"{service}/runs", json=wrong).json()["errors"]
        assert offence["pointer"] == "/model/layers/0/width"
        there = page.locator('[data-pointer="/model/layers/0/width"] .complaints')
        expect(there).to_have_text(f"{offence['detail']} {offence['hint']}")
        expect(field(page, "/model/layers/0/width")).to_have_attribute("aria-invalid", "true")
        field(page, "/model/layers/0/width").fill("3")
        expect(there).to_have_text("")

        field(page, "/training/steps").fill("many")  # found when it is to run
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator('[data-pointer="/training/steps"] .complaints')).to_contain_text("valid integer")
        expect(field(page, "/training/steps")).to_be_focused()


def test_a_spec_over_a_limit_is_refused_with_the_estimate(visit: Visit, service: str) -> None:
    with visit(service) as (page, watch):
        watch.refused_on_purpose = True
        opened(page, "compose", {**SMALL, "training": {**SMALL["training"], "steps": 10**12}})
        page.get_by_role("button", name="Run", exact=True).click()
        alert = page.locator(".beside .problem")
        expect(alert).to_contain_text("flops")
        expect(alert).to_contain_text("/training")


@pytest.mark.long
def test_the_programs_beside_a_spec_run_as_they_stand(page: Page, service: str) -> None:
    opened(page, "compose", SMALL)
    told = subprocess.run(["sh", "-c", shown_code(page, "curl")], capture_output=True, check=True).stdout
    run = httpx.get(f"{service}{json.loads(told)['links']['self']}").json()
    assert run["spec"]["training"]["steps"] == 20
    list(httpx.get(f"{service}{run['links']['events']}", timeout=60).iter_lines())
    losses = httpx.get(f"{service}/runs/{run['id']}").json()["series"]["loss"]["value"]
    for language in ("Python, over HTTP", "Python, no server"):
        command = [sys.executable, "-c", shown_code(page, language)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        lines = [line for line in printed.splitlines() if "loss" in line]
        assert len(lines) == len(losses), language
        assert str(losses[-1]) in lines[-1], language


def test_an_address_carries_its_spec_and_an_experiment_may_be_begun_from(page: Page, service: str) -> None:
    opened(page, "compose", SMALL)
    field(page, "/training/steps").fill("77")
    page.wait_for_url("**steps%22%3A77**")  # 77 alone may be in a port
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    expect(field(page, "/training/steps")).to_have_value("77")
    experiment = httpx.get(f"{service}/experiments").json()["experiments"][1]
    page.get_by_label("Start from").select_option(experiment["name"])
    width = experiment["spec"]["model"]["layers"][0]["width"]
    expect(field(page, "/model/layers/0/width")).to_have_value(str(width))


def test_a_small_kernel_is_that_of_the_service(page: Page, service: str) -> None:
    opened(page, "kernels", QUADRATIC)  # with a spec in its address it is computed at once
    expected = np.array(httpx.post(f"{service}/kernel", json=QUADRATIC).json()["kernels"]["ntk"])
    picture = page.get_by_role("img", name="Neural tangent kernel: 3 rows")
    picture.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    figure = page.locator("figure", has=picture)
    expect(figure.locator(".reading")).to_contain_text("input 1, with input 1: ")
    assert_close(float(figure.locator(".reading strong").inner_text()), expected[1, 1], rtol=1e-6)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ntk.npy").click()
    assert_close(np.load(io.BytesIO(Path(download.value.path()).read_bytes())), expected, rtol=0)
    matrix = drawing(page, "Neural tangent kernel")
    assert f"{expected[1, 1]:.3g}" in {text.text for text in matrix.iter(f"{SVG}text")}
    assert matrix.find(f"{SVG}image") is not None
    spectrum = np.array(table(page, "Spectrum")["ntk"], dtype=np.float64)
    assert_close(spectrum, np.linalg.eigvalsh(expected)[::-1], rtol=1e-9)
    expect(page.locator(".facts")).to_contain_text("keeps it")


def test_a_file_becomes_a_data_set_that_the_spec_names(page: Page, service: str, tmp_path: Path) -> None:
    file = tmp_path / "my table.csv"
    file.write_text("a,b,y\n1,0,0\n0,2,1\n3,1,0\n")
    page.goto("/#/kernels")
    inputs = page.locator(".dataset").first
    expect(inputs.get_by_role("button", name="digits")).to_have_attribute("aria-pressed", "true")
    inputs.get_by_text("Add a data set").click()
    inputs.get_by_label("File: a table").set_input_files(file)
    expect(inputs.get_by_label("Its name")).to_have_value("my-table")
    inputs.get_by_label("Columns that are targets").fill("y")
    inputs.get_by_role("button", name="Add", exact=True).click()
    expect(inputs.get_by_role("button", name="my-table")).to_have_attribute("aria-pressed", "true")
    expect(inputs.get_by_role("status")).to_have_text("Added my-table.")
    assert httpx.get(f"{service}/datasets/my-table").json()["splits"] == {"train": {"x": [3, 2], "y": [3, 1]}}
    assert '"name": "my-table"' in shown_code(page, "curl")
    httpx.delete(f"{service}/datasets/my-table").raise_for_status()


def test_a_large_kernel_fills_in_before_ones_eyes(page: Page, service: str) -> None:
    spec = {
        "model": QUADRATIC["model"],
        "x1": {"kind": "dataset", "name": "digits", "limit": 600},
        "of": {"kind": "infinite", "get": ["ntk"]},
        "dtype": "float32",
    }
    respond = {"Prefer": "respond-async"}
    job = httpx.post(f"{service}/kernel", json=spec, headers=respond).raise_for_status().json()
    page.goto(f"/#/kernels/{job['id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text("A kernel of 600 × 600")
    expect(page.locator(".badge", has_text="succeeded")).to_be_visible(timeout=60_000)
    tiles = httpx.get(f"{service}/kernels/{job['id']}").json()["progress"]["tiles"]
    expect(page.locator(".facts").first).to_contain_text(f"{tiles['total']} of {tiles['total']} tiles")
    means = np.array(httpx.get(f"{service}/kernels/{job['id']}/preview").json()["value"])
    preview = page.get_by_role("img", name=f"Preview: {means.shape[0]} rows")
    preview.focus()
    page.keyboard.press("ArrowDown")
    reading = page.locator("figure", has=preview).locator(".reading strong")
    assert_close(float(reading.inner_text()), means[1, 0], rtol=1e-5)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ntk.npy").click()
    assert np.load(io.BytesIO(Path(download.value.path()).read_bytes())).shape == (600, 600)
    part = page.get_by_label("Command that reads a part").inner_text()
    to_output = part.replace("-o part.npy", "-o -")
    assert to_output != part
    sent = subprocess.run(["sh", "-c", to_output], capture_output=True, check=True).stdout
    assert np.load(io.BytesIO(sent)).shape == (10, 10)


def test_a_large_kernel_can_be_stopped(page: Page, service: str) -> None:
    dense, relu = {"kind": "dense", "width": 1024}, {"kind": "relu"}
    slow = {"kind": "empirical", "outputs": "full", "implementation": "jacobian_contraction"}
    spec = {
        "model": {"layers": [dense, relu, dense, relu, {"kind": "dense", "width": 10}]},
        "x1": {"kind": "dataset", "name": "digits", "limit": 200},
        "of": slow,
    }
    opened(page, "kernels", spec)
    page.get_by_role("button", name="Compute").click()
    page.wait_for_url("**/#/kernels/*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".badge", has_text="cancelled")).to_be_visible()


@pytest.fixture(scope="module")
def sweep(service: str) -> list[str]:
    """Ids of runs that differ in the width, three seeds each."""
    record = [{"what": "loss"}, {"what": "kernel_distance"}]
    dense, *rest = SMALL["model"]["layers"]
    specs = [
        {
            **SMALL,
            "model": {"layers": [{**dense, "width": width}, *rest]},
            "seeds": [0, 1, 2],
            "record": record,
        }
        for width in WIDTHS
    ]
    return [run_ended(service, spec) for spec in specs]


def test_runs_are_compared_and_their_exponent_is_that_of_the_engine(
    page: Page, service: str, sweep: list[str]
) -> None:
    page.goto("/#/compare")
    for _ in WIDTHS:
        page.locator(".picker input:not(:checked)").first.check()
    page.goto(f"/#/compare?ids={','.join(sweep)}")
    for width in WIDTHS:
        expect(page.get_by_role("link", name=f"width {width}", exact=True)).to_be_visible()
    series = [httpx.get(f"{service}/runs/{run}").json()["series"]["kernel_distance"] for run in sweep]
    found = table(page, "Kernel distance")
    assert_close([found["width 4"][-1]], [series[0]["value"][-1][0]], rtol=0)

    last = [each["value"][-1] for each in series]
    fit = fit_exponent(WIDTHS, last)
    note = page.locator("figure", has_text="Kernel distance at the end").locator(".note")
    expect(note).to_contain_text(f"Power {fit.slope:.2f}, between {fit.low:.2f} and {fit.high:.2f}")
    page.get_by_label("Leave out width 4", exact=True).click()
    expect(page.get_by_role("link", name="width 4", exact=True)).to_be_hidden()


def test_exponents_and_eigenvalues_of_the_page_are_those_of_numpy(page: Page) -> None:
    page.goto("/")
    generator = np.random.default_rng(0)
    widths = [8, 32, 128, 512]
    values = np.exp(generator.normal(size=(4, 6))) * np.array(widths)[:, None] ** -0.7
    groups = [{"x": width, "values": list(row)} for width, row in zip(widths, values, strict=True)]
    get = "async ([module, name, given]) => (await import(`/static/page/${module}.js`))[name](given)"
    found = page.evaluate(get, ["exponent", "exponent", groups])
    expected = fit_exponent(widths, values)
    assert_close(found["slope"], expected.slope, rtol=1e-12)
    # Two bootstraps of the same sample differ by what 1,999 draws leave open.
    assert_close([found["low"], found["high"]], [expected.low, expected.high], rtol=0.05)
    square = generator.normal(size=(12, 12))
    symmetric = square @ square.T
    eigenvalues = page.evaluate(get, ["eigenvalues", "eigenvalues", symmetric.tolist()])
    assert_close(eigenvalues, np.linalg.eigvalsh(symmetric)[::-1], rtol=1e-10)


INFLUENCE: dict[str, Any] = {
    "model": {"layers": [{"kind": "dense", "width": 64, "b_std": 0.5}, {"kind": "tanh"},
                         {"kind": "dense", "width": 1}]},
    "data": {"x": [[-1.0], [0.0]], "y": [[0.5], [0.0]]},
    "x_new": [[1.0]],
    "y_new": [[0.5]],
    "points": [[-1.5], [-0.5], [0.5], [1.0], [1.5]],
    "training": {"kind": "gradient_flow", "t_end": 30.0},
}  # fmt: skip


def test_one_more_point_moves_the_function_as_the_service_says(page: Page, service: str) -> None:
    opened(page, "influence", INFLUENCE)
    note = page.locator("figure", has_text="How it moved").locator(".note")
    expect(note).to_contain_text("off by", timeout=60_000)
    told = httpx.post(f"{service}/influence", json=INFLUENCE, timeout=60).raise_for_status().json()
    moved = table(page, "How it moved")
    assert_close(moved["x"], np.ravel(INFLUENCE["points"]), rtol=0)
    assert_close(moved["the network"], np.ravel(told["moved"]), rtol=0)
    assert_close(moved["by the kernel"], np.ravel(told["predicted"]), rtol=0)
    plot = page.locator("figure", has_text="The function").locator(".u-over")
    with page.expect_response("**/influence") as answered:
        plot.click(position={"x": 20, "y": 40})
    sent = json.loads(answered.value.request.post_data or "")
    ((x,),) = sent["x_new"]
    assert x < -1.0
    page.wait_for_url(f"**{quote(json.dumps([[x]], separators=(',', ':')))}**")


def report_shown(page: Page) -> None:
    """A report of the engine, where a service would give it."""
    links = {name: f"/regime/abc/{name}" for name in ("events", "cancel")} | {"self": "/regime/abc"}
    job = {
        "id": "abc", "kind": "regime", "status": "succeeded", "meaning": "It ended by itself.",
        "progress": {"fraction": 1.0}, "seconds_left": 0, "error": None, "links": links, "result": REPORT,
    }  # fmt: skip
    page.route("**/regime/abc", lambda route: route.fulfill(json=job))
    page.route("**/regime/abc/events?*", lambda route: route.fulfill(status=204))
    page.goto("/#/regime/abc")


def test_a_regime_report_says_what_it_found_and_why(page: Page) -> None:
    report_shown(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Near the kernel regime, but not in it")
    answers = page.locator(".evidence .answer").all_inner_texts()
    assert answers == ["yes", "not surely", "yes", "not surely"]
    own = REPORT["widths"][0]
    row = page.locator(".evidence tr", has_text="Did its kernel stand still?")
    expect(row).to_contain_text(f"{100 * own['kernel_change']['median']:.2g} %")
    expect(row).to_contain_text("below 10 %")
    for reason in REPORT["reasons"][1:]:
        expect(page.locator(".reasons")).to_contain_text(reason)
    exponent = REPORT["exponents"]["kernel_change"]
    expect(page.locator("figure", has_text="Change of the kernel")).to_contain_text(
        f"{exponent['slope']:.2f}"
    )
    changes = table(page, "Change of the kernel")
    assert_close(changes["median"], [row["kernel_change"]["median"] for row in REPORT["widths"]], rtol=0)
    expect(page.get_by_label("Advice")).to_contain_text(f"width {REPORT['advice']['width']}")
    expect(page.locator(".assumptions .fails")).to_contain_text("gradient descent")


def test_a_regime_report_is_asked_for_by_clicking(page: Page, service: str) -> None:
    spec = {name: SMALL[name] for name in ("model", "data", "training")}
    opened(page, "regime", {**spec, "seeds": 2})
    field(page, "/widths").fill("4")
    page.get_by_role("button", name="Start the report").click()
    page.wait_for_url("**/#/regime/*")
    expect(page.locator(".verdict .badge")).to_be_visible(timeout=60_000)
    job = httpx.get(f"{service}/regime/{page.url.rpartition('/')[2]}").json()
    assert job["widths"] == [4, 8]
    expect(page.locator(".verdict .badge")).to_have_text(job["result"]["verdict"])
    for reason in job["result"]["reasons"][1:]:
        expect(page.locator(".reasons")).to_contain_text(reason)


def test_a_wrong_value_of_a_sweep_is_said_at_its_axis(visit: Visit, service: str) -> None:
    run = {name: SMALL[name] for name in ("model", "data", "training")}
    width = "/model/layers/0/width"
    with visit(service) as (page, watch):
        watch.refused_on_purpose = True
        opened(page, "sweeps", {"run": run, "axes": [{"field": width, "values": [4, 0]}]})
        there = page.locator('[id="wrong/axes/0/values"]')
        expect(there).to_contain_text(f"combination 1 ({width} = 0)")
        field(page, "/axes/0/values").fill("4, 8, 16")
        expect(there).to_have_text("")
        page.get_by_role("button", name="Add an axis").click()
        field(page, "/axes/1/field").fill("/seed")
        field(page, "/axes/1/values").fill("0, 1")
        expect(page.locator(".cost")).to_contain_text("Combinations6")


def test_a_sweep_becomes_a_table_with_its_powers(page: Page, service: str) -> None:
    run = {name: SMALL[name] for name in ("model", "data", "training")} | {"seeds": [0, 1]}
    axes = [
        {"field": "/model/layers/0/width", "values": [4, 8, 16]},
        {"field": "/model/parameterization", "values": [{"kind": "ntk"}, {"kind": "standard"}]},
    ]
    opened(page, "sweeps", {"run": run, "axes": axes})
    page.get_by_role("button", name="Start the sweep").click()
    page.wait_for_url("**/#/sweeps/*")
    expect(page.locator(".status .badge")).to_have_text("succeeded", timeout=60_000)
    found = httpx.get(f"{service}/sweeps/{page.url.rpartition('/')[2]}").json()["result"]
    cells = [row.split()[:2] for row in page.locator(".sweep-table tbody tr").all_inner_texts()]
    assert cells == [[str(width), kind] for width in (4, 8, 16) for kind in ("ntk", "standard")]
    changes = table(page, "Change of the kernel")
    known = [row["kernel_change"]["median"] for row in found["rows"]]
    assert_close(changes["parameterization ntk"], known[::2], rtol=0)
    assert_close(changes["parameterization standard"], known[1::2], rtol=0)
    note = page.locator("figure", has_text="Change of the kernel").locator(".note")
    powers = [each for each in found["exponents"] if each["of"] == "kernel_change"]
    assert len(powers) == 2
    for power in powers:
        expect(note).to_contain_text(
            f"Power {power['slope']:.2f} ({power['low']:.2f} to {power['high']:.2f})"
        )
    fits(page, "sweep")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_forms_fit_and_have_no_barriers(
    visit: Visit, service: str, sweep: list[str], size: tuple[int, int]
) -> None:
    views = {
        "compose": ".cost dd", f"kernels?spec={quote(json.dumps(QUADRATIC))}": ".kernel-result canvas",
        "regime": ".cost dd", "sweeps": ".cost dd", f"compare?ids={','.join(sweep)}": ".sweeps canvas",
        f"influence?spec={quote(json.dumps(INFLUENCE))}": ".influence canvas",
    }  # fmt: skip
    with visit(service, size) as (page, _):
        for address, shown in views.items():
            page.goto(f"/#/{address}")
            page.wait_for_selector(shown)
            fits(page, address)
        report_shown(page)
        page.wait_for_selector(".evidence")
        fits(page, "regime report")


def fits(page: Page, address: str) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{address} scrolls by {wide} pixels"
    assert barriers(page) == [], address


def test_files_of_the_forms_are_short() -> None:
    assert all(len(path.read_text().splitlines()) < 300 for path in (STATIC / "views").glob("*.js"))
