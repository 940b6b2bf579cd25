"""The `ntk` command, one function a command. It imports no torch, and the server only where it is started."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import (
    datasets,
    experiments,
    export,
    figures,
    kernel,
    operations,
    predict,
    regime,
    run,
    sweep,
    verify,
    watch,
    worker,
)
from service.commands.terminal import err, give_up, out, settings_from

if TYPE_CHECKING:
    import uvicorn

app = typer.Typer(
    name="ntk",
    help="Neural tangent kernels, and real training to compare them with.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
FIRST_KERNEL = {
    "model": {
        "parameterization": {"kind": "ntk"},
        "layers": [{"kind": "dense"}, {"kind": "relu"}, {"kind": "dense", "width": 1}],
    },
    "x1": [[1.0, 0.0], [0.6, 0.8]],
    "of": {"kind": "infinite"},
}


def main() -> None:
    """Run the command line."""
    app()


def version() -> None:
    """Print the version."""
    out.print(installed_version("ntkengine"))


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (NTK_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for any free one (NTK_PORT).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where runs are kept (NTK_DATA_DIR).")] = None,
    work: Annotated[
        bool | None, typer.Option(help="Whether to compute, or leave that to `ntk worker` (NTK_WORK).")
    ] = None,
) -> None:
    """Start the service and say where to look. What is not given is read from the environment."""
    settings = settings_from(host=host, port=port, data_dir=data_dir, work=work)
    listener = listen(settings.host, settings.port)

    from service.app import create_app, lock_of
    from service.serving import TooOpen, check_exposure, server_of

    try:
        check_exposure(settings, listener)
        lock = lock_of(settings)
        try:
            lock.take()  # to know now; the application takes it again when it starts
        except OSError as error:
            raise give_up(
                f"{settings.data_dir.absolute()} cannot keep runs: {error.strerror}. Name another directory: "
                "ntk serve --data-dir DIRECTORY (or NTK_DATA_DIR=DIRECTORY make run)."
            ) from None
        lock.release()
        server = server_of(create_app(settings), settings)
    except (TooOpen, RuntimeError, ValueError, OSError) as error:
        err.print(f"The service was not started: {error}", style="red")
        raise typer.Exit(1) from None
    asyncio.run(serve_until_stopped(server, listener))
    out.print("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on, taken before anything is started, so that a port in use costs nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        # Connections inherit it. asyncio sets it where it makes the listener itself; without it each answer
        # waits 40 ms for the client to acknowledge its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # what follows is the address once more
        err.print(f"Cannot listen on {host}, port {port}: {reason}.", style="red")
        what_to_do = (
            "Stop what uses it, or take another: ntk serve --port 8001 (or NTK_PORT=8001 make run)."
            if error.errno == errno.EADDRINUSE
            else "Name an address of this machine and a port that you may use: "
            "ntk serve --host 127.0.0.1 --port 8000 (or NTK_HOST and NTK_PORT)."
        )
        err.print(what_to_do)
        raise typer.Exit(1) from None
    return listener


async def serve_until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until stopped, and announce the service once it answers."""
    announcing = asyncio.create_task(announce_when_ready(server, listener))
    await server.serve(sockets=[listener])
    announcing.cancel()


async def announce_when_ready(server: uvicorn.Server, listener: socket.socket) -> None:
    """Wait for the start; it may take seconds, and may fail."""
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
        await asyncio.sleep(0.02)
    announce(listener)


def announce(listener: socket.socket) -> None:
    """Print where the service is and what to try first."""
    host, port = listener.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (not listened on, only named)
    base = f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"
    out.print("\nntkengine is ready (Ctrl-C stops it)\n", style="bold green")
    out.print(f"  page           {base}/")
    out.print(f"  documentation  {base}/docs")
    out.print("  first kernel:\n")
    out.print(f"curl {base}/kernel -H 'Content-Type: application/json' -d '{json.dumps(FIRST_KERNEL)}'\n")


# in the order of the help
for commands in (kernel, predict, regime, run, sweep, watch, experiments, datasets, export, verify, figures):
    commands.add_to(app)
app.command()(serve)
for commands in (worker, operations):
    commands.add_to(app)
app.command()(version)
