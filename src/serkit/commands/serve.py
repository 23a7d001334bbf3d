"""The command ``serve``. Imports lazily, like the whole command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import Calls, Model

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "httptools": "uvicorn[standard]",
    "websockets": "uvicorn[standard]",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def serve(
    model: Model = "default",
    calls: Calls = "auto",
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for a free one.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Worker processes; 0: one per core.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Clips that one worker processes together.", min=1)] = 8,
    concurrency: Annotated[
        int, typer.Option(help="Requests in progress at once, including those being read.", min=1)
    ] = 128,
    queue: Annotated[int, typer.Option(help="Recordings that may wait; more are refused with 429.", min=1)] = 64,
    streams: Annotated[int, typer.Option(help="Streams at once.", min=1)] = 16,
    max_mb: Annotated[float, typer.Option(help="Largest body of a request.")] = 100.0,
    max_minutes: Annotated[float, typer.Option(help="Longest recording of a request.")] = 30.0,
    job_max_mb: Annotated[float, typer.Option(help="Largest body of a job.")] = 1500.0,
    job_max_minutes: Annotated[float, typer.Option(help="Longest recording of a job.")] = 720.0,
    timeout: Annotated[float, typer.Option(help="Seconds from a body's last byte to its answer.")] = 120.0,
    read_timeout: Annotated[float, typer.Option(help="Seconds that a client may send, or read, nothing.")] = 10.0,
    grace: Annotated[float, typer.Option(help="Seconds after SIGTERM to finish accepted requests.")] = 30.0,
    api_key: Annotated[str | None, typer.Option(help="Require this key (visible in the process list).")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with one key per line. Also: SERKIT_API_KEYS.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Allow web pages of this origin; repeat for several.")
    ] = None,
    page: Annotated[bool, typer.Option(help="Serve the web page at /.")] = True,
    quiet: Annotated[bool, typer.Option(help="Do not log each request.")] = False,
) -> None:
    """Serve a model over HTTP: recordings, long files as jobs, streams over WebSocket, and a web page."""
    _check_packages()
    from serkit.processes import cores
    from serkit.serving.bundle import for_calls, open_bundle
    from serkit.serving.http.server import serve as run
    from serkit.serving.http.settings import PAGE, ServiceSettings, read_keys

    opened = open_bundle(model)
    for one in (opened, for_calls(opened, model, calls)):  # refused before anything is started
        if one is not None:
            one.check_plugins()
    settings = ServiceSettings(
        model=model, calls=calls, workers=workers or cores(), batch=batch, concurrency=concurrency,
        queue=queue, streams=streams,
        max_mb=max_mb, max_minutes=max_minutes, job_max_mb=job_max_mb, job_max_minutes=job_max_minutes,
        timeout_s=timeout, read_s=read_timeout, grace_s=grace, keys=read_keys(api_key, api_key_file),
        origins=tuple(allow_origin or ()), page=PAGE if page else None,
    )  # fmt: skip
    run(settings, host, port, quiet=quiet)


def _check_packages() -> None:
    """Check that all packages of the service are installed, before anything is loaded.

    Raises:
        MissingExtra: one is missing.
    """
    from importlib.util import find_spec

    from serkit.errors import MissingExtra

    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtra(package, "serve", "serkit serve")


COMMANDS = (serve,)
