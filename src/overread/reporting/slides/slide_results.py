"""What the report tells of a study of slides beside its answers: the search for lesions, what was skipped, slides with their maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from overread.core.errors import InputError, checked
from overread.core.files import read_rows, unguarded
from overread.core.phrases import count
from overread.evaluation.detection import Localisation
from overread.evaluation.results import from_file_form
from overread.reporting import words
from overread.reporting.figures.canvas import Figure, label
from overread.reporting.figures.froc_curve import froc_figure, lesion_table
from overread.reporting.run import Run
from overread.reporting.shown_cases import Names, by_reason, picture
from overread.reporting.slides.slide_pictures import ShownSlide, read_slides
from overread.reporting.words import Table
from overread.stats.estimate import Estimate

#: Where a run keeps the search for lesions, and what was looked at on each slide.
SEARCH, LOOKED = "evaluation/lesions", "predictions/slides-{part}.csv"
#: What slides are shown for, and how they are called.
REASONS = {
    "missed": "With disease, and the lowest scores",
    "false": "Without disease, and the highest scores",
    "random": "Drawn at random from the others",
}
#: What is skipped of a slide, in words.
_KINDS = {
    "background": "glass",
    "tissue": "tissue",
    "pen": "pen",
    "edge": "edge of the coverslip",
    "blur": "out of focus",
    "bubble": "bubbles",
}
#: How a slide beside its heat map is to be read.
HOW_TO_READ = (
    "stands beside its heat map, from dark blue (no tumour) to yellow (tumour); grey was not looked at. Outlines are the true lesions: blue where one was "
    "found, pink where it was missed, grey and dashed where it is not judged. Circles are places from the threshold of tuning slides on: green on a lesion, orange on none, grey where it is not judged, black where lesions are not known."
)
_COLOURS = {"hit": "#009E73", "false": "#D55E00", "left out": "#777777", "unknown": "#000000"}


@dataclass(frozen=True, eq=False)
class SlideResults:
    """Of a study of slides: the search for lesions with its groups (None: not judged), what was looked at by part, slides to show."""

    search: Localisation | None
    groups: tuple[Estimate, ...]
    looked: pd.DataFrame
    slides: tuple[ShownSlide, ...]

    def __bool__(self) -> bool:
        return bool(self.search or len(self.looked) or self.slides)


@checked
def read_slide_results(folder: str | Path) -> SlideResults:
    """What a run's folder holds of slides; empty where it is of other images. Raises :class:`InputError` for a damaged file."""
    home = Path(folder)
    search = Localisation.load(home / SEARCH) if (home / SEARCH / Localisation.file).exists() else None
    groups = read_rows(Estimate, home / SEARCH / "groups.json", by=from_file_form) if search else ()
    parts = [_looked(home / LOOKED.format(part=part)).assign(part=part) for part in ("tuning", "test") if (home / LOOKED.format(part=part)).exists()]  # fmt: skip
    return SlideResults(
        search, groups, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), read_slides(home)
    )


def _looked(path: Path) -> pd.DataFrame:
    try:
        table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
        return table.assign(**{name: pd.to_numeric(table[name]) for name in table if name not in ("case", "name")})
    except (OSError, ValueError) as error:
        raise InputError(
            "the table of slides is damaged", given=path.name, todo="run `overread predict` again"
        ) from error


# -- in words, tables, figures ------------------------------------------------------------------------------------------


@checked
def search_words(found: SlideResults) -> list[str]:
    """What was found of the lesions, in sentences."""
    if found.search is None:
        return []
    c = found.search.counts
    mean, eight = (next((e for e in found.search.estimates if e.metric == name and not e.undefined), None) for name in ("mean sensitivity", "sensitivity at 8 false positives per image"))  # fmt: skip
    lines = []
    if mean:
        lines.append(f"Of {words.count(c['lesions'], 'lesion')} on {words.count(c['images'], 'slide')} it found {_cell(mean)} on average over ¼ to 8 false alarms a slide, as CAMELYON16 counts.")  # fmt: skip
    if eight:
        lines.append(f"At 8 false alarms a slide it found {_cell(eight)}.")
    lines += [words.sentence(caution) for caution in found.search.cautions]
    return [
        *lines,
        *([f"These lesions were looked at {words.times(found.search.looks)} before."] if found.search.looks else []),
    ]


@checked
def lesion_line(folder: str | Path) -> str:
    """What was found of the lesions of a run of slides, for a terminal; blank where nothing was judged."""
    home = Path(folder) / SEARCH
    if not (home / Localisation.file).exists():
        return ""
    found = Localisation.load(home)
    known = {e.metric: e for e in found.estimates}
    shown = (
        ("lesions found over ¼ to 8 false alarms a slide", "mean sensitivity"),
        ("at 8 a slide", "sensitivity at 8 false positives per image"),
    )
    told = [f"{what} {_cell(known[metric])}" for what, metric in shown if metric in known]
    return f"Of {count(found.counts['lesions'], 'lesion')}: {'; '.join(told)}".replace("\u00a0", " ")


@checked
def search_tables(found: SlideResults) -> list[Table]:
    """The sensitivities, then those of each source and subgroup side by side."""
    if found.search is None:
        return []
    tables = [lesion_table(found.search)]
    if found.groups:
        groups = list(dict.fromkeys(next(iter(e.where.items())) for e in found.groups))
        shown = (
            "mean sensitivity",
            "sensitivity at 1 false positives per image",
            "sensitivity at 8 false positives per image",
        )
        by = {(next(iter(e.where.items())), e.metric): e for e in found.groups}
        rows = tuple((words.name(f"{column} {value}", 60), f"{one.images:,}" if (one := by.get((group, shown[0]))) and one.images is not None else "", *(_cell(by.get((group, metric))) for metric in shown))
                     for group in groups for column, value in [group])  # fmt: skip
        tables.append(
            Table(
                "By source and subgroup",
                ("Slides of", "Slides", "Mean sensitivity", "At 1 false positive", "At 8 false positives"),
                rows,
            )
        )
    return tables


def _cell(e: Estimate | None) -> str:
    if e is None or e.undefined:
        return words.NOTHING
    between = "" if not math.isfinite(e.low) else f" ({100 * e.low:.0f}–{100 * e.high:.0f})"
    return f"{100 * e.value:.0f}\u00a0%{between}"


@checked
def search_figure(found: SlideResults) -> Figure | None:
    """The FROC curve with its band."""
    return froc_figure(found.search) if found.search else None


@checked
def skipped_table(found: SlideResults) -> Table | None:
    """Of the slides of each part how much was looked at, and what the rest is; None where nothing is known."""
    kinds = [name for name in map(str, found.looked) if name.startswith("share ")]
    if not kinds:
        return None
    rows = []
    for part, held in found.looked.groupby("part", sort=False):
        area = (held["width"] * held["height"]).to_numpy()
        shares = [float((held[kind] * area).sum() / area.sum()) for kind in kinds]
        cells = (f"{len(held):,}", f"{area.sum() / 1e6:,.0f}", *map(_percent, shares), f"{int(held['looked'].sum()):,}", f"{int(held['unread'].sum()):,}")  # fmt: skip
        rows.append((words.name(str(part)), *cells))
    head = (
        "Part",
        "Slides",
        "mm²",
        *(_KINDS.get(k.removeprefix("share "), k).capitalize() for k in kinds),
        "Places looked at",
        "Unreadable",
    )
    return Table("What was looked at: tissue alone; shares of the area of the slides", head, tuple(rows))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


# -- slides beside their heat maps ---------------------------------------------------------------------------------------


@checked
def shown_slides(run: Run, found: SlideResults, names: Names) -> list[tuple[str, list[Figure]]]:
    """A title and its slides, each beside its heat map: those missed, those falsely alarmed, and others."""
    return by_reason(found.slides, REASONS, "slide", lambda slide, key: _drawn(run, slide, names, key))


def _drawn(run: Run, slide: ShownSlide, names: Names, key: str) -> Figure:
    title = f"{names.with_source(slide)}: {words.name(slide.truth)}, score {words.number(slide.score, 2)}"
    return slide_figure(slide, picture(run.folder, slide.picture), picture(run.folder, slide.heat), key, title)


@checked
def slide_figure(slide: ShownSlide, overview: str, heat: str, key: str, title: str) -> Figure:
    """A slide beside its heat map, as in :func:`slide_svg`, and what was found on it in words."""
    caption = f"{slide.width / 1000:.1f} × {slide.height / 1000:.1f} mm. {_found(slide)}."
    caption += (
        f" The {len(slide.places):,} highest of {slide.alarms:,} places are drawn."
        if slide.alarms > len(slide.places)
        else ""
    )
    caption += " The picture is kept back: there is text in its pixels." if slide.withheld else ""
    return Figure(key, title, f"{title}. {caption}", caption, slide_svg(slide, overview, heat, key, title), True)


def _found(slide: ShownSlide) -> str:
    """What was found on a slide, of all its places; nothing is called false where the lesions are not known."""
    if not slide.known:
        return f"Lesions not known; {count(slide.alarms, 'place')} from the threshold on"
    lesions = f"{slide.found:,} of {count(slide.lesions, 'lesion')} found" if slide.lesions else "No lesion to find"
    return f"{lesions}; {count(slide.false, 'false alarm')}"


@checked
def slide_svg(slide: ShownSlide, overview: str, heat: str, key: str, title: str) -> str:
    """The slide and, to its right, its heat map, both with outlines and places; ``overview`` and ``heat``: data URLs, blank where there is none."""
    width, height, gap = slide.width, slide.height, slide.width * 0.03
    line = max(width, height) / 260
    size = f'width="{width:.0f}" height="{height:.0f}" preserveAspectRatio="none"'
    left = f'<image href="{escape(overview)}" {size}/>' if overview else f'<rect {size} fill="#bbb"/>'
    right = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#e8e8e8"/><svg width="{width:.0f}" height="{height:.0f}"><image href="{escape(heat)}" x="{slide.covers[0]:.1f}" y="{slide.covers[1]:.1f}" width="{slide.covers[2]:.1f}" height="{slide.covers[3]:.1f}" preserveAspectRatio="none" style="image-rendering: pixelated"/></svg>'
    drawn = _over(slide, line)
    inside = f'<g>{left}{drawn}</g><g transform="translate({width + gap:.0f} 0)">{right}{drawn}</g>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="slide" viewBox="0 0 {2 * width + gap:.0f} {height:.0f}">'
    return label(f"{head}{inside}</svg>", key, title, title)


def _over(slide: ShownSlide, line: float) -> str:
    paths = [f'<path d="{escape(one.path)}" fill="none" stroke="{_outline_colour(one.judged, one.found)}" stroke-width="{line:.0f}"{"" if one.judged else f" stroke-dasharray={chr(34)}{2 * line:.0f}{chr(34)}"}><title>{_outline_words(one.judged, one.found)}</title></path>' for one in slide.outlines]  # fmt: skip
    marks = [f'<circle cx="{place.x:.0f}" cy="{place.y:.0f}" r="{2.2 * line:.0f}" fill="none" stroke="{_COLOURS[place.kind]}" stroke-width="{line:.0f}"><title>{place.kind}, {place.score:.2f}</title></circle>' for place in slide.places]  # fmt: skip
    return "".join([*paths, *marks])


def _outline_colour(judged: bool, found: bool) -> str:
    return "#777777" if not judged else "#0072B2" if found else "#CC79A7"


def _outline_words(judged: bool, found: bool) -> str:
    return "not judged" if not judged else "a lesion that was found" if found else "a lesion that was missed"


@checked
def slide_words(found: SlideResults) -> str:
    """How the slides that are shown are to be read, in a sentence; blank where none is."""
    return f"Each slide of the test part {HOW_TO_READ}" if found.slides else ""
