"""The commands that compute, as users and programs run them: on this machine, and by a service."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from ntkengine.dynamics import RunSpec, train
from ntkengine.experiments import EXPERIMENTS
from ntkengine.kernels import KernelSpec, compute_kernel
from ntkengine.spec import from_jsonable
from service.commands import sweep
from service.commands.common import merged, with_whole_lists

NTK = str(Path(sys.executable).with_name("ntk"))
MODEL = {"layers": [{"kind": "dense", "width": 8}, {"kind": "relu"}, {"kind": "dense", "width": 1}]}
KERNEL = {"model": MODEL, "x1": [[1.0, 0.5], [-1.0, 0.2]], "of": {"kind": "empirical", "seed": 3}}
RUN = {
    "model": MODEL,
    "data": {"x": KERNEL["x1"], "y": [[1.0], [0.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 20},
    "record": [{"what": "loss"}, {"what": "kernel_distance"}],
    "seed": 0,
}
SWEEP = {"run": RUN, "axes": [{"field": "/model/layers/0/width", "values": [4, 8, 16]}]}


def ntk(*arguments: str, given: Any = None, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What the command says, apart on both streams, with JSON as its standard input."""
    text = None if given is None else json.dumps(given)
    ended = subprocess.run(
        [NTK, *arguments], check=False, input=text, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.verify  # it tries for some ten seconds
def test_watching_at_an_address_where_nobody_answers_ends_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = ntk("watch", "A" * 22, "--url", f"http://127.0.0.1:{port}", status=1).stderr
    assert "does not answer" in said
    assert "ntk serve" in said


def test_a_patch_may_change_entries_of_lists() -> None:
    spec = {"a": [{"b": 1}, {"b": 2}], "c": {"d": 3, "e": 4}}
    patch = {"a": {"1": {"b": 5}}, "c": {"d": None}}
    changed = {"a": [{"b": 1}, {"b": 5}], "c": {"e": 4}}
    assert merged(spec, patch) == changed
    plain = with_whole_lists(spec, patch)
    assert plain == {"a": [{"b": 1}, {"b": 5}], "c": {"d": None}}
    assert merged(spec, plain) == changed


def test_a_kernel_here_and_there(service: str, tmp_path: Path) -> None:
    spec = KERNEL | {"of": {"kind": "empirical", "seed": 4}}
    expected = compute_kernel(from_jsonable(KernelSpec, spec)).kernels["ntk"]
    here = json.loads(ntk("kernel", "-", "--set", "of.seed=4", given=KERNEL).stdout)
    assert here["kernels"]["ntk"] == expected.tolist()
    assert here["method"]["kind"] == "empirical"
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    file = tmp_path / "kernel.npz"
    said = ntk("kernel", str(tmp_path / "spec.json"), "--out", str(file), "--url", service)
    assert json.loads(said.stdout)["out"] == str(file)
    with np.load(file, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["ntk"], expected)
        assert json.loads(found["about"].item())["diagnostics"] == here["diagnostics"]


def test_a_prediction_of_an_experiment_there(service: str) -> None:
    times = '{"kind": "gradient_flow", "times": [0, "inf"]}'
    said = ntk("predict", "quadratic_ntk_10", "--set", f"training={times}", "--url", service)
    found = json.loads(said.stdout)
    assert found["times"] == [0.0, "inf"]
    np.testing.assert_allclose(found["mean_train"][-1], [[1.0], [1.0]], atol=1e-9)


def test_a_sweep_here_and_there(service: str, tmp_path: Path) -> None:
    rates = ("--axis", "/training/learning_rate=[0.1, 0.2]")
    here = json.loads(ntk("sweep", "-", *rates, given=SWEEP).stdout)
    assert [row["values"] for row in here["rows"][:3]] == [[4, 0.1], [4, 0.2], [8, 0.1]]
    (tmp_path / "spec.json").write_text(json.dumps(SWEEP))
    file = tmp_path / "table.csv"
    there = ntk("sweep", str(tmp_path / "spec.json"), *rates, "--out", str(file), "--url", service)
    assert json.loads(there.stdout) == here
    header, *rows = file.read_text().splitlines()
    assert header.startswith("index,/model/layers/0/width,/training/learning_rate,outcome,members,")
    assert [row.split(",")[:4] for row in rows[:2]] == [
        ["0", "4", "0.1", "stopped"],
        ["1", "4", "0.2", "stopped"],
    ]


def test_a_sweep_that_is_asked_wrongly_is_told_which_combination() -> None:
    said = ntk("sweep", "-", "--axis", "/training/steps=[0]", given=SWEEP, status=2).stderr
    assert "/axes/1/values/0" in said
    assert "combination 0 (/model/layers/0/width = 4, /training/steps = 0)" in said


def test_a_sweep_for_people() -> None:
    table = json.loads(
        ntk("sweep", "-", "--set", "run.seed=null", "--set", "run.seeds=[0,1]", given=SWEEP).stdout
    )
    console = Console(width=200, record=True, file=io.StringIO())
    for part in sweep.readable(table):
        console.print(part)
    text = console.export_text()
    slope = table["exponents"][0]["slope"]
    assert "model/layers/0/width" in text
    assert f"{table['rows'][2]['kernel_change']['median']:.3g}" in text
    assert f"kernel change goes as model/layers/0/width to the power {slope:.2f} (" in text


def test_data_sets_there(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "arrays.npz"
    np.savez(file, x=np.eye(3), y=np.ones((3, 1)))
    added = json.loads(ntk("datasets", "add", "eye", str(file), "--url", service).stdout)
    assert added["splits"] == {"train": {"x": [3, 3], "y": [3, 1]}}
    there = json.loads(ntk("datasets", "list", "--url", service).stdout)
    assert [each["name"] for each in there] == ["digits", "eye"]
    spec = KERNEL | {"x1": {"kind": "dataset", "name": "eye"}}
    assert np.shape(
        json.loads(ntk("kernel", "-", "--url", service, given=spec).stdout)["kernels"]["ntk"]
    ) == (3, 3)
    ntk("datasets", "remove", "eye", "--url", service)
    assert "eye" in ntk("kernel", "-", "--url", service, given=spec, status=2).stderr
    wrong = tmp_path / "arrays.xls"
    wrong.touch()
    assert ".npz" in ntk("datasets", "add", "eye", str(wrong), "--url", service, status=2).stderr
    monkeypatch.setenv("NTK_DATASETS", str(tmp_path))
    (tmp_path / "kept").mkdir()
    np.save(tmp_path / "kept" / "train.x.npy", np.eye(2))
    assert json.loads(ntk("datasets", "list").stdout)[1] == {
        "name": "kept",
        "splits": {"train": {"x": [2, 2]}},
    }


def test_a_run_here_is_the_engines_and_its_events_are_enough_to_keep_it(tmp_path: Path) -> None:
    out = tmp_path / "direct.npz"
    events = ntk("run", "-", "--out", str(out), given=RUN).stdout
    told = [json.loads(line) for line in events.splitlines()]
    assert [event["seq"] for event in told] == list(range(len(told)))
    assert (told[0]["kind"], told[-1]["kind"], told[-1]["outcome"]) == ("started", "finished", "stopped")
    points = [point for segment in train(from_jsonable(RunSpec, RUN)) for point in segment.points]
    losses = [point.values["loss"] for point in points]
    assert [event["loss"] for event in told if event["kind"] == "point"] == losses
    (tmp_path / "events").write_text(events)
    ntk("export", str(tmp_path / "events"), "--out", str(tmp_path / "kept.npz"))
    with np.load(out) as direct, np.load(tmp_path / "kept.npz") as kept:
        assert direct.files == kept.files
        for name in direct.files:
            np.testing.assert_array_equal(direct[name], kept[name])
        assert direct["loss.value"].tolist() == losses
        assert json.loads(direct["spec"].item()) == RUN
        assert json.loads(direct["about"].item())["outcome"] == "stopped"
    assert ntk("watch", str(tmp_path / "events"), "--json").stdout == events


def test_a_run_there_is_labelled_with_its_experiment_and_kept(service: str, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    changes = [
        "--set",
        "training.t_end=0.5",
        "--set",
        "model.layers.0.width=3",
        "--set",
        'record=[{"what":"loss"}]',
    ]
    ended = ntk("run", "quadratic_ntk_10", *changes, "--out", str(out), "--url", service)
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    kept = json.loads(out.read_text())
    assert (kept["experiment"], kept["outcome"]) == ("quadratic_ntk_10", "stopped")
    assert kept["spec"]["model"]["layers"][0]["width"] == 3
    assert kept["series"]["loss"]["value"] == [event["loss"] for event in told if event["kind"] == "point"]
    assert ntk("watch", kept["id"], "--url", service).stdout == ended.stdout


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """What a test starts hears Ctrl-C, also where the tests run in the background of a script: shells have
    such programs ignore it, and programs pass that on to those that they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_a_services_run_and_says_how_to_go_on(service: str, tmp_path: Path) -> None:
    endless = RUN | {"training": {"kind": "gradient_descent", "learning_rate": 1e-6, "steps": 10**7}}
    (spec := tmp_path / "endless.json").write_text(json.dumps(endless))
    command = [NTK, "run", str(spec), "--url", service]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["kind"] == "started"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "The run goes on" in said
    assert "Traceback" not in said
    run_id, address = re.findall(r"ntk watch (\S+) --url (\S+)", said)[0]
    assert httpx.get(f"{address}/runs/{run_id}").json()["status"] == "running"
    assert "cancelled" in ntk("cancel", run_id, "--url", address).stderr
    assert httpx.get(f"{address}/runs/{run_id}").json()["status"] == "cancelled"


def test_people_see_a_bar_and_a_table() -> None:
    def read(descriptor: int) -> bytes:
        shown.append(os.read(descriptor, 4096))
        return shown[-1]

    shown: list[bytes] = []
    silent = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:  # pty.spawn copies what it reads to standard output
        os.dup2(nowhere.fileno(), 1)
    try:
        pty.spawn([NTK, "run", "quadratic_ntk_2", "--set", "training.t_end=0.5"], read)
    finally:
        os.dup2(silent, 1)
        os.close(silent)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert re.search(r"100% +loss 0\.\d+", text)
    assert re.search(r"\d+ s left", text)
    assert re.search(r"outcome +stopped", text)
    assert '"kind"' not in text


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["run", "-"], RUN | {"seed": -1}, "/seed: "),
        (["run", "-", "--out", "nowhere/run.npz"], RUN, "there is no directory nowhere"),
        (["experiments", "--url", "127.0.0.1:8000"], None, "such as http://127.0.0.1:8000"),
        (["watch", "events.jsonl"], None, "there is no file events.jsonl"),
        (["kernel", "nothing"], None, "quadratic_ntk_10"),
        (["kernel", "-", "--set", "seed"], KERNEL, "KEY=VALUE"),
        (["kernel", "-", "--set", "model.layers.7.width=1"], KERNEL, "a list of 3"),
        (["run", "-", "--out", "run.xls"], RUN, ".npz or .csv or .json"),
        (["kernel", "-"], {"model": {"layers": [{"kind": "rleu"}]}}, "/model/layers/0: "),
        (["sweep", "-", "--axis", "/seed=1"], SWEEP, "FIELD=VALUES, such as"),
        (["watch", "pyproject.toml"], None, "holds no events"),
    ],
)
def test_what_is_asked_wrongly_is_said_with_what_to_do(arguments: list[str], given: Any, said: str) -> None:
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", ntk(*arguments, given=given, status=2).stderr).split())
    assert said in words


def test_a_service_says_what_is_wrong_too(service: str) -> None:
    wrong = RUN | {"training": {"kind": "gradient_descent", "learning_rate": -1.0, "steps": 3}}
    assert "/training/learning_rate: " in ntk("run", "-", "--url", service, given=wrong, status=2).stderr


def test_a_service_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTK_URL", "http://127.0.0.1:9")
    said = ntk("experiments", status=1).stderr
    assert "http://127.0.0.1:9" in said
    assert "ntk serve" in said


def test_the_catalogue() -> None:
    found = json.loads(ntk("experiments").stdout)
    assert [each["name"] for each in found] == list(EXPERIMENTS)
    one = json.loads(ntk("experiments", "linear_standard_10").stdout)
    assert one == next(each for each in found if each["name"] == "linear_standard_10")


def test_the_shell_completes_commands_and_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_NTK_COMPLETE", "complete_bash")
    for words, place, expected in (
        ("ntk exp", "1", ["experiments", "export"]),
        ("ntk run digits", "2", ["digits_relu"]),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", place)
        found = ntk().stdout.split()
        assert len(found) == len(expected)
        assert all(word.startswith(start) for word, start in zip(found, expected, strict=True))


def test_help_is_fast_because_it_loads_little() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from service.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded', sorted({'torch', 'fastapi', 'numpy', 'sqlalchemy'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "loaded []"
