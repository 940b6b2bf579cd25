"""A client that a stranger's tool makes of /openapi.json gets a kernel and a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compare import assert_close
from tests.service.server import Server

GENERATOR = "openapi-python-client==0.29.1"  # in an environment of its own: its dependencies contradict ours
PROGRAM = """
import json
import sys
import time

from ntkengine_client import Client
from ntkengine_client.api.kernels import kernel_kernel_post
from ntkengine_client.api.runs import create_runs_post, show_runs_job_id_get
from ntkengine_client.models import ExperimentRun, KernelSpec

KERNEL = {
    "model": {
        "layers": [
            {"kind": "dense", "width": 1000, "b_std": 1.0, "W_law": {"kind": "uniform", "half_width": 1.0},
             "b_law": {"kind": "uniform", "half_width": 0.5}},
            {"kind": "quadratic"},
            {"kind": "dense", "width": 1, "W_law": {"kind": "uniform", "half_width": 1.0}},
        ]
    },
    "x1": [[1.0], [-1.0]],
    "of": {"kind": "infinite", "get": ["ntk"]},
}

with Client(sys.argv[1], timeout=60.0, raise_on_unexpected_status=True) as client:
    kernel = kernel_kernel_post.sync(client=client, body=KernelSpec.from_dict(KERNEL))
    experiment = ExperimentRun(experiment="quadratic_one_neuron")
    run = create_runs_post.sync(client=client, body=experiment)
    while (view := show_runs_job_id_get.sync(run.id, client=client)).status not in {"succeeded", "failed"}:
        time.sleep(0.2)
print(json.dumps({"kernel": kernel.to_dict(), "run": view.to_dict()}))
"""


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_a_kernel_and_a_run(engine: Server, tmp_path: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("NO UV: no client is generated. pip install uv")
    (tmp_path / "openapi.json").write_text(engine.client.get("/openapi.json").text)
    within = [uv, "run", "--no-project", "--isolated", "--with", GENERATOR]
    made = ["openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "client"]
    said = subprocess.run([*within, *made], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "/components/schemas/" not in said.stdout + said.stderr, said.stdout  # no schema was left out
    address = f"http://127.0.0.1:{engine.port}"
    asked = [*within, "--with", str(tmp_path / "client"), "python", "-c", PROGRAM, address]
    found = json.loads(subprocess.run(asked, cwd=tmp_path, capture_output=True, check=True).stdout)
    same, other = 1073 / 720, 113 / 720  # what the notes' laws give
    assert_close(found["kernel"]["kernels"]["ntk"], [[same, other], [other, same]], rtol=1e-14)
    assert found["run"]["outcome"] == "converged"
    assert_close(found["run"]["series"]["kernel_distance"]["value"][-1], 0.7999195, rtol=1e-6)
