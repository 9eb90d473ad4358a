"""Features from few marked patches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import bars, end, output_folder, say
from overread.cli.options import AsJson, Level

#: Images whose maps the page shows, at most.
SHOWN = 6


def patches(
    table: Annotated[Path, typer.Argument(help="marked patches: image, x, y (the middle, pixels), feature, present; side and mask (where it is painted) may stand beside them")],
    images: Annotated[str, typer.Option(help="table of the images to map: image, and truth:FEATURE and tomogram or patient where they are known; slices.csv or images.csv beside the patches, else the images of the patches, if not given")] = "",
    feature: Annotated[list[str], typer.Option(help="of these features alone; may be repeated")] = [],
    threshold: Annotated[float, typer.Option(help="least answer that counts as a feature in the merged map", min=0.01, max=0.99)] = 0.5,
    overlap: Annotated[bool, typer.Option("--overlap", help="features may lie over each other: what is painted as one teaches nothing of the others")] = False,
    steps: Annotated[int, typer.Option(help="of training, for each feature", min=2)] = 200,
    seed: Annotated[int, typer.Option(help="same seed: same networks", min=0)] = 0,
    level: Level = 0.95,
    threads: Annotated[int, typer.Option(help="threads to use; networks as small as these are hardly quicker with more", min=1)] = 1,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for networks, maps and scores; patches/ beside the table if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Maps of features from about ten marked patches each: one small network a feature, hard negatives, images of any size."""
    import torch

    from overread.cells.few_patches.few_patches import images_of_patches, map_features, preview, read_images_to_map
    from overread.cells.few_patches.marked_patches import read_patches
    from overread.reporting.pages.cells.patches import patches_page

    torch.set_num_threads(threads)
    marked = read_patches(table, features=feature)
    beside = [
        table.parent / name for name in ("slices.csv", "images.csv") if not images and (table.parent / name).exists()
    ]
    asked = Path(images) if images else beside[0] if beside else None
    shown = read_images_to_map(asked, marked.features) if asked else images_of_patches(marked)
    folder = output_folder(output, table.parent / "patches")
    say(str(marked))
    with bars() as progress:
        found = map_features(marked, shown, folder, threshold=threshold, exclusive=not overlap, steps=steps, seed=seed, level=level,
                             progress=progress, say=say)  # fmt: skip
    judged_first = sorted(shown, key=lambda image: len(image.truth) == 0)[:SHOWN]
    page = patches_page(found, [(image.name, *preview(folder, image)) for image in judged_first], folder)
    if as_json:
        typer.echo((folder / "evaluation" / "features.json").read_text("utf-8"))
        return
    typer.echo(found.table())
    end([folder / "maps", folder / "networks", folder / "evaluation" / "metrics.json", page], ["open", page])
