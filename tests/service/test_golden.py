"""All reference kernels, through POST /kernel."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tests.reference_kernels import check_infinite, of_kind
from tests.service.server import Server


@pytest.mark.parametrize("case", of_kind("infinite"))
def test_reference_kernels(engine: Server, case: dict[str, Any]) -> None:
    def kernels_of(request: dict[str, Any]) -> dict[str, Any]:
        answer = engine.client.post("/kernel", json=request, headers={"Accept": "application/x-npz"})
        assert answer.status_code == 200, answer.text
        with np.load(io.BytesIO(answer.content), allow_pickle=False) as file:
            return dict(file)

    check_infinite(case, kernels_of)
