"""How a result shows itself: as a small safe table in a notebook, as a DataFrame, as a drawing, and with what can be asked.

One mechanism for every noun. A class that inherits :class:`Shown` says in :meth:`~Shown.overview` what to look at first,
in :meth:`~Shown.to_frame` what it holds, and in :meth:`~Shown.asked` what this one in particular can be asked; escaping,
bounds, light and dark, help and errors for wrong names are here.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from overread.core.errors import checked, nearest
from overread.core.phrases import aligned, count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Rows, columns and notes of an overview, at most, and characters of a cell and of a sentence.
ROWS, COLUMNS, NOTES, CELL, SENTENCE = 12, 14, 6, 120, 500
#: Grey lines of half strength and inherited colours: legible on any ground, light or dark.
_STYLE = (
    ".overread{color:inherit;max-width:100%;overflow-x:auto}.overread p{margin:.4em 0}"
    ".overread table{border-collapse:collapse;background:transparent;color:inherit;margin:.4em 0;font-size:.92em}"
    ".overread caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0;color:inherit}"
    ".overread table tr,.overread table tr:hover{background:transparent!important}"
    ".overread th,.overread td{color:inherit;padding:.25em .7em;text-align:left!important;vertical-align:top;white-space:pre-wrap;"
    "border:0;border-bottom:1px solid rgba(128,128,128,.45)}"
    ".overread .n{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".overread .more,.overread li{opacity:.85;font-size:.92em}"
)


# -- a table and a page of a few ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A small table. ``rows`` are the first ``most`` of ``of``: what is handed in is cut, and what there is counted."""

    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    caption: str = ""
    of: int = 0
    most: int = ROWS

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", max(self.of, len(self.rows)))
        object.__setattr__(self, "rows", tuple(self.rows[: self.most]))

    @property
    def more(self) -> str:
        """That these are not all, in words; ``""`` where they are."""
        return f"… {len(self.rows):,} of {self.of:,}" if len(self.rows) < self.of else ""

    @property
    def html(self) -> str:
        """The table as HTML, everything in it escaped."""
        right = [_is_number(column) for column in zip(*self.rows)] or [False] * len(self.head)
        heads = "".join(f'<th scope="col"{_right(r)}>{_safe(h)}</th>' for h, r in zip(self.head, right))
        body = "".join(
            f"<tr>{''.join(f'<td{_right(r)}>{_safe(written(c))}</td>' for c, r in zip(row, right))}</tr>"
            for row in self.rows
        )
        caption = f"<caption>{_safe(self.caption)}</caption>" if self.caption else ""
        more = f'<p class="more">{self.more}</p>' if self.more else ""
        return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}"

    @property
    def lines(self) -> list[str]:
        """The table as aligned text."""
        rows = [self.head, *(tuple(map(written, row)) for row in self.rows)]
        return [*filter(None, [self.caption]), *(f"  {line}" for line in aligned(rows)), *filter(None, [self.more])]


@dataclass(frozen=True)
class Overview:
    """What is looked at first: a sentence, a few tables, and what must be known before they are believed."""

    title: str
    panels: tuple[Panel, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.title, *(line for panel in self.panels for line in ("", *panel.lines))]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        panels = "".join(panel.html for panel in self.panels if panel.rows)
        notes = "".join(f"<li>{_safe(note, SENTENCE)}</li>" for note in self.notes[:NOTES])
        notes += f"<li>… {NOTES} of {len(self.notes)} notes</li>" if len(self.notes) > NOTES else ""
        return (
            f'<div class="overread"><style>{_STYLE}</style><p><strong>{_safe(self.title, SENTENCE)}</strong></p>'
            f"{panels}{f'<ul>{notes}</ul>' if notes else ''}</div>"
        )


def _is_number(column: Sequence[object]) -> bool:
    return all(isinstance(cell, (int, float)) or cell in (None, "–", "") for cell in column)


def _right(number: bool) -> str:
    return ' class="n"' if number else ""


@checked
def written(cell: Any) -> str:
    """A cell in few characters: numbers with four digits, nothing as a dash, yes and no as words.

    >>> written(0.912345), written(12000), written(float("nan")), written(True), written("mel")
    ('0.9123', '12,000', '–', 'yes', 'mel')
    """
    if cell is None or (pd.api.types.is_scalar(cell) and pd.isna(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _safe(text: object, limit: int = CELL) -> str:
    """What stands in a page: cut, without characters that command, and escaped."""
    one_line = "".join(c if c.isprintable() else " " for c in str(text))
    return escape(one_line if len(one_line) <= limit else f"{one_line[:limit]} …")


@checked
def panel_of(frame: pd.DataFrame, caption: str = "", most: int = ROWS) -> Panel:
    """The first rows and columns of a DataFrame; what is left out is said."""
    columns = list(frame.columns)
    kept, of = columns[:COLUMNS], f", {COLUMNS} of {count(len(columns), 'column')}"
    caption = f"{caption or count(len(frame), 'row')}{of}" if len(columns) > COLUMNS else caption
    rows = frame[kept].head(most).astype(object).itertuples(index=False, name=None)
    cells = tuple(tuple(getattr(cell, "item", lambda cell=cell: cell)() for cell in row) for row in rows)
    return Panel(tuple(map(str, kept)), cells, caption, len(frame), most)


# -- what every result can do ---------------------------------------------------------------------------------------


class Shown:
    """A result that shows itself: in a notebook, as a DataFrame, as a figure, and with what can be asked of it."""

    def to_frame(self) -> pd.DataFrame:
        """What is held as a table to compute with: here one row, the fields that are a number, a text or a yes-or-no."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return pd.DataFrame([{name: v for name, v in held.items() if isinstance(v, (str, int, float))}])

    def overview(self) -> Overview:
        """What to look at first, as the notebook shows it."""
        frame = self.to_frame()
        panel = panel_of(frame)
        if len(frame) == 1:
            panel = Panel(("field", "value"), tuple(zip(panel.head, panel.rows[0])))
        notes = (*getattr(self, "cautions", ()), *getattr(self, "notes", ()))
        return Overview(str(self).splitlines()[0], (panel,) if len(frame) else (), notes)

    def _repr_html_(self) -> str:
        return self.overview()._repr_html_()

    def plot(self, kind: str = "") -> Figure:
        """A matplotlib figure of it; ``kind`` names another than the first, and :meth:`help` lists them.

        Raises :class:`ArgumentError` for a kind that it has not, :class:`InputError` where there is nothing to draw.
        """
        import overread  # the front door: who draws stands far above, and is found by name when a figure is asked for

        return overread.plot(self, kind)  # type: ignore[no-any-return]

    def asked(self) -> tuple[Panel, ...]:
        """What this one in particular can be asked, such as its metrics; tables for :meth:`help`."""
        return ()

    def help(self) -> Overview:
        """What can be asked: of this one in particular, then its fields, properties and methods with a line each."""
        kind = type(self)
        about = [" ".join(text.split()) for text in _plain(inspect.getdoc(kind) or "").split("\n\n")]
        members = Panel(("ask", "what it gives"), tuple(_members(kind)), "Fields, properties and methods", most=10**6)
        import overread

        kinds = tuple((f'.plot("{name}")',) for name in overread.plots(self))
        own = (*(panel for panel in self.asked() if panel.rows), *([Panel(("figures",), kinds)] if kinds else []))
        return Overview(f"{kind.__name__}: {about[0]}", (*own, members), tuple(about[1:]))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = (
                ""
                if name.startswith("_")
                else f"; {nearest(name, _names(type(self)))}; .help() lists what can be asked"
            )
            raise AttributeError(f"{type(self).__name__} has no {name!r}{hint}")


def _names(kind: type) -> list[str]:
    fields = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    return list(dict.fromkeys([*fields, *(name for name in dir(kind) if not name.startswith("_"))]))


def _members(kind: type) -> Iterator[tuple[object, ...]]:
    """A row a field with its type, then a row a property or method in the order of the class, with its first sentence."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    for each in fields:
        yield f".{each.name}", str(each.type).replace("NDArray[Any]", "array")
    known = {each.name for each in fields}
    for base in kind.__mro__[:-1]:
        for name in vars(base):
            if not name.startswith("_") and name not in known and (row := _member(kind, name)):
                known.add(name)
                yield row


def _member(kind: type, name: str) -> tuple[object, ...] | None:
    member = inspect.getattr_static(kind, name)
    sentence = first_sentence(inspect.getdoc(getattr(kind, name)) or "")
    if isinstance(member, property) or hasattr(member, "func"):
        return f".{name}", sentence
    if not isinstance(member, (classmethod, staticmethod)) and not inspect.isfunction(member):
        return None
    names = [p for p in inspect.signature(getattr(kind, name)).parameters if p not in ("self", "cls")]
    owner = kind.__name__ if isinstance(member, (classmethod, staticmethod)) else ""
    return f"{owner}.{name}({', '.join(names)})", sentence


@checked
def help() -> Overview:
    """What there is to call, in the order of the path: the verbs, then the nouns that they give. Raises nothing.

    >>> help().panels[0].rows[0][0]
    'ov.read_cases(…)'
    """
    import overread

    told: dict[str, list[tuple[object, ...]]] = {"FunctionDef": [], "ClassDef": []}
    for name, home in overread._HOMES.items():
        found = importlib.util.find_spec(home)
        tree = _parsed(found.origin if found and found.origin else "")
        node = next((n for n in tree.body if getattr(n, "name", "") == name), None)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            call = f"ov.{name}(…)" if isinstance(node, ast.FunctionDef) else f"ov.{name}"
            told[type(node).__name__].append((call, first_sentence(ast.get_docstring(node) or "")))
    verbs, nouns = (Panel(("ask", "what it does"), tuple(rows), most=10**6) for rows in told.values())
    return Overview("import overread as ov: the verbs in the order of the path, then what they give",
                    (verbs, nouns), ("Each result says what it can be asked: result.help()",))  # fmt: skip


@functools.cache
def _parsed(path: str) -> ast.Module:
    """The source of a module, unread by Python: to import all of them takes seconds."""
    return ast.parse(Path(path).read_text(encoding="utf-8") if path else "")


@checked
def first_sentence(doc: str) -> str:
    """The first sentence of a docstring, without its marks.

    >>> first_sentence("Read what :meth:`save` wrote. Raises :class:`InputError`.")
    'Read what save wrote.'
    """
    return " ".join(re.split(r"(?<=\.)\s", _plain(doc), maxsplit=1)[0].split()) if doc else ""


def _plain(doc: str) -> str:
    return re.sub(r"(?::\w+:)?`+~?([^`]*)`+", lambda found: found[1].removeprefix(".").rpartition("overread.")[2], doc)
