"""How a client connects, and the specs of what it is asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np

DEFAULT_URL = "http://127.0.0.1:8000"
# Streams are silent for 15 seconds at most.
TIMEOUT = httpx.Timeout(60.0, connect=5.0)


def arguments(url: str | None, key: str | None) -> dict[str, Any]:
    """What both of httpx' clients are made with.

    Raises:
        ValueError: the address is none.
    """
    url = url or os.environ.get("NTK_URL") or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no address of a service, such as {DEFAULT_URL}")
    key = key or os.environ.get("NTK_KEY")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": TIMEOUT,
    }


MEDIA = {
    ".csv": "text/csv",
    ".npz": "application/x-npz",
    ".arrow": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
}


def table_of(data: str | Path | Mapping[str, Any]) -> tuple[bytes, str]:
    """A file, or arrays by name, as what is sent and its media type.

    Raises:
        ValueError: the file's name does not end as one of those that the service reads.
    """
    if isinstance(data, Mapping):
        file = io.BytesIO()
        np.savez_compressed(
            file, allow_pickle=False, **{name: np.asarray(each) for name, each in data.items()}
        )
        return file.getvalue(), MEDIA[".npz"]
    media = MEDIA.get(Path(data).suffix.lower())
    if media is None:
        raise ValueError(f"{data} is no data set: its name does not end in one of {', '.join(MEDIA)}")
    return Path(data).read_bytes(), media


def kernel_spec(model: Any, x1: Any, x2: Any, of: Any, dtype: str) -> dict[str, Any]:
    """The spec of a kernel of arrays, lists or data sets."""
    given = {"x1": x1, "x2": x2, "of": of}
    return {"model": model, "dtype": dtype} | {
        name: value for name, value in given.items() if value is not None
    }


def run_spec(spec: Any, overrides: Mapping[str, Any] | None) -> Any:
    """The body that starts a run of a spec or of a named experiment."""
    return {"experiment": spec, "overrides": overrides or {}} if isinstance(spec, str) else spec
