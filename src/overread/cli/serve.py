"""The reading room: a run behind a page and REST."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from typing import Annotated

import typer

from overread.cli.console import say, table
from overread.cli.options import AsJson, Folder
from overread.core.errors import UnavailableError
from overread.serving.hospital_it import hospital_it
from overread.serving.policy import Address, Operation, ServingLimits, ServingSettings

_NEEDED = ("fastapi", "uvicorn", "python_multipart")


def serve(
    folder: Folder, address: Address, limits: ServingLimits, operation: Operation,
    open_browser: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    check: Annotated[bool, typer.Option("--check", help="print what an IT department asks, answered for these settings, and stop")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Open a run as a web page and REST, on this machine: a probability, where the network looked, similar known cases.

    Nothing is sent anywhere, and no upload outlives its request. Stop with Ctrl-C.
    """
    settings = ServingSettings(address, limits, operation)
    if check:
        found = hospital_it(settings, folder)
        return typer.echo(json.dumps([asdict(answer) for answer in found], indent=2)) if as_json else table(
            ("topic", "answer"), [(answer.topic, answer.answer) for answer in found])  # fmt: skip
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UnavailableError("the server needs packages that are not installed", given=", ".join(missing),
                               todo="pip install 'overread[serve]'")  # fmt: skip
    from overread.serving.server import serve as run_server

    say(f"opening {folder}")

    def ready(url: str) -> None:
        say(f"the reading room is open: {url}  (Ctrl-C closes it)")
        if open_browser:
            import webbrowser

            webbrowser.open(url)

    run_server(folder, settings, say=say, ready=ready)
