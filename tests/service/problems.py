"""What tests of bad input share."""

from __future__ import annotations

import httpx

from tests.service.server import JSONObject

HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}"
LYING_FILE = b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER + bytes(8)


def check_problem(answer: httpx.Response, status: int) -> JSONObject:
    """A problem by the book, with something to do about it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: JSONObject = answer.json()
    assert problem["type"].startswith("urn:ntkengine:problem:")
    assert problem["status"] == status
    assert problem["instance"] == answer.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["hint"]
    assert "Traceback" not in answer.text
    assert all(offence["detail"] and offence["hint"] for offence in problem["errors"])
    return problem
