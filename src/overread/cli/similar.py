"""What is alike: the known cases that are nearest to a case or an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import end, open_run
from overread.cli.options import AsJson, Cache, Folder, Only
from overread.core.errors import InputError, one_of
from overread.study.question import Resources, Study

if TYPE_CHECKING:
    from overread.cases.cases import Cases
    from overread.learning.model import Model
    from overread.retrieval.index import Index
    from overread.study.context import RunContext


def similar(
    folder: Folder,
    resources: Annotated[Resources, Only(("device", "threads"))],
    cases: Annotated[list[str], typer.Argument(help="cases of the run, by name or code, or paths of images; none: the index is built and told of")] = [],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="neighbours of each")] = 5,
    other_source: Annotated[bool, typer.Option("--other-source", help="none of the query's own source: what is alike beyond the scanner")] = False,
    layer: Annotated[str, typer.Option(help="the layer whose numbers are compared; chosen on tuning patients if not given")] = "",
    distance: Annotated[str, typer.Option(help="cosine or euclidean; chosen on tuning patients if not given")] = "",
    faiss: Annotated[bool, typer.Option("--faiss", help="search by faiss (extra: index); above a million cases it does so where it is installed")] = False,
    build_only: Annotated[bool, typer.Option("--build-only", help="build the index anew, and ask nothing")] = False,
    cache: Cache = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The known cases nearest to a case: their labels, how near they are, and how far such neighbours can be trusted.

    Builds the index of the training part where there is none, or none of this model. Never shows the same patient, nor
    a copy of the image. Writes index/, index/neighbours.json and index/similar.html in the run's folder.
    """
    from overread.learning.predict import load_model
    from overread.reporting.pages.similar import similar_page
    from overread.retrieval.neighbours import DISTANCES
    from overread.study.context import require_images
    from overread.study.run_index import write_neighbours

    require_images(folder, "overread similar")
    if build_only and cases:
        raise InputError("--build-only asks nothing", given=" ".join(cases), todo="leave out the cases, or the flag")
    if distance:
        one_of(distance, DISTANCES, "distance")
    model = load_model(folder)
    with open_run(Study.load(folder / "study.toml"), folder, cache, quiet=as_json) as context:
        index, table, parts = _index(context, model, layer, distance, resources, build_only)
        rows: list[dict[str, Any]] = []
        for query in (_query(name, table, model, context) for name in cases):
            work: dict[str, Any] = {"device": resources.device, "threads": resources.threads, "cache": context.cache}
            asked = index.ask(query, **work)
            found = index.search_asked(asked, k, other_source=other_source, engine="faiss" if faiss else "")
            far = dict(zip(asked.cases, map(float, index.novelty_of(asked)), strict=True))
            said = _answers(model, query, resources)
            for row in write_neighbours(
                folder,
                index,
                found,
                parts["train"],
                query,
                asked.cases.tolist(),
                cache=context.cache,
                threads=resources.threads,
            ):
                case = row["case"]
                rows.append(row | {"novelty": far[case], "limit": index.novelty_limit, "answers": said[case]})
        page = similar_page(folder, [row["case"] for row in rows])
    if as_json:
        typer.echo(json.dumps(_told(index, rows), indent=2, ensure_ascii=False))
        return
    for line in _lines(index, rows):
        typer.echo(line)
    end([folder / "index" / "index.json", page], ["open", page])


def _index(
    context: RunContext, model: Model, layer: str, distance: str, resources: Resources, anew: bool
) -> tuple[Index, Cases, dict[str, Cases]]:
    """The run's index, built where it is not there, of another model, damaged, or asked for otherwise; and its cases."""
    from overread.cases.split import Split
    from overread.study.run_index import build_index, open_index

    table = context.usable()
    split = Split.load(context.folder / "split.csv")
    parts = {part: table.only(split, part) for part in ("train", "tuning", "test")}
    why = "asked for" if anew else ""
    if not why:
        try:
            index = open_index(context.folder, model)
        except InputError as error:
            why = error.what
        else:
            other = [f"{name} {wanted}" for name, wanted, has in (("layer", layer, index.about.layer), ("distance", distance, index.about.distance))
                     if wanted not in ("", has)]  # fmt: skip
            if not other:
                return index, table, parts
            why = "asked for " + ", ".join(other)
    context.say(f"building the index of {len(parts['train']):,} training images: {why}")
    index = build_index(model, parts, context.folder, layer=layer, distance=distance, cache=context.cache, device=resources.device,
                        threads=resources.threads, seed=context.study.training.seed, progress=context.progress, say=context.say)  # fmt: skip
    context.say(f"  built in {context.clock.elapsed:.0f} s")
    return index, table, parts


def _query(name: str, table: Cases, model: Model, context: RunContext) -> Cases:
    """A case of the run, or the image at a path."""
    from overread.learning.inputs import new_cases

    if Path(name).is_file():
        query = new_cases(model, name)
        if model.about.names_salt:
            context.say(f"  {Path(name).name} stands under the code {query.table['case'].iloc[0]}")
        return query
    try:
        return table[name]
    except InputError as error:
        raise InputError(
            "there is no such case in the run, and no such file", given=repr(name), todo=str(error)
        ) from error


def _answers(model: Model, query: Cases, resources: Resources) -> dict[str, dict[str, float]]:
    """What the model itself says of each case: it comes first (Tschandl 2020, doi:10.1038/s41591-020-0942-0)."""
    from overread.learning.predict import predict

    made = predict(model, query, device=resources.device, threads=resources.threads)
    return {case: dict(zip(model.target.names, map(float, scores), strict=True))
            for case, scores in zip(made.table["case"].astype(str), made.scores, strict=True)}  # fmt: skip


def _told(index: Index, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from overread.core.files import plain

    return {"index": plain(index.about), "cases": plain(rows)}


def _lines(index: Index, rows: list[dict[str, Any]]) -> list[str]:
    from overread.study.run_index import reliability

    lines = [f"index: {index}"]
    for row in rows:
        answers = sorted(row["answers"].items(), key=lambda each: -each[1])[:3]
        lines += ["", f"{row['case']}: the model says {', '.join(f'{n} {p:.2f}' for n, p in answers)}"]
        if row["novelty"] > row["limit"]:
            lines.append(
                f"  unlike the training data: {row['novelty']:.3g} away, and 95 % of tuning patients stay below {row['limit']:.3g}"
            )
        lines += [f"  {rank}. {n['label']:<20} {n['distance']:.3f}  {n['case']}{'  ' + n['source'] if n['source'] else ''}"
                  for rank, n in enumerate(row["neighbours"], 1)]  # fmt: skip
        if not row["neighbours"]:
            lines.append("  nothing known may answer")
    lines += ["", *reliability(index, {n["label"] for row in rows for n in row["neighbours"]})]
    return lines
