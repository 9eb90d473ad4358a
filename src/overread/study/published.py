"""Published systems: a study without its table, written down so that a reader can hold it beside the paper.

A file of ``recipes/`` with a ``[paper]`` holds the fields of a recipe and, in sections of its own, what else the paper
fixes: the options of the study, the factors of a grid, what the table must hold, the commands that follow, the paper's own
numbers, and for each field the section of the paper it comes from. There is no code behind a published system: what it
needs is a capability with an option of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, OverreadError, checked, nearest, one_of, require
from overread.core.files import build, fingerprint, plain, read_fields, sha256_file, write_text
from overread.core.settings import settings
from overread.evaluation.comparison.beside_paper import BesidePaper, PublishedNumber, beside_paper
from overread.learning.recipe import SYSTEM_SECTIONS, Recipe, bundled, recipe_file
from overread.study.question import Columns, Study

#: Commands that may follow a run: they judge, compare and show, and write into the folder of the run.
AFTER = ("evaluate", "compare", "direct", "leaderboard", "readers", "simulate", "second-reader", "curve", "shift", "explain", "similar", "calibrate",
         "time", "froc")  # fmt: skip
#: Commands that may make the run in place of ``overread run``; they take ``--seed``.
MAKERS = ("patches",)
#: What a run has once it has begun, by whichever command.
BEGUN = ("study.toml", "vary.json", "labels.json")
#: How those commands are told where to write.
OUTPUT = ("-o", "--output")
#: Columns that are found out where nobody names them.
GUESSED = ("image", "label", "patient", "source")
#: What a field is where neither the paper nor anybody else fixes it.
CHOSEN = "what the plan chooses"
#: What stands in for a path in those commands.
PLACES = ("run", "table", "readers")
#: The copy of the recipe's file in the folder of its run, of a run in its reduced form, and the folder of the paper's table.
COPY, REDUCED_COPY, TABLE_FOLDER = "published.toml", "published-reduced.toml", "published"


@dataclass(frozen=True)
class Paper:
    """What was published: ``data`` is what the authors had, ``asks`` what is asked of an image, in a sentence."""

    title: str
    authors: str
    year: int
    doi: str
    data: str
    asks: str

    @property
    def citation(self) -> str:
        """The paper in short, as it is cited: first author and year.

        >>> Paper("A title", "Gulshan V, Peng L", 2016, "10.1001/x", "photographs", "Referable?").citation
        'Gulshan 2016'
        """
        return f"{self.authors.split(',')[0].split()[0]} {self.year}"


@dataclass(frozen=True)
class Reduced:
    """The same on a laptop in minutes: the ``phantom`` (:func:`overread.synthetic.draw`'s kind and options), and the fields
    of the recipe, the options of the study, the factors and the commands that stand in place of the paper's, and ``why``.
    ``command``: in place of the system's own, where it has one."""

    phantom: dict[str, Any] = field(default_factory=dict, hash=False)
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    study: dict[str, Any] = field(default_factory=dict, hash=False)
    vary: dict[str, list[Any]] = field(default_factory=dict, hash=False)
    then: tuple[str, ...] | None = None
    why: str = ""
    command: str = ""


@dataclass(frozen=True)
class PublishedSystem:
    """A paper as a study without its table.

    ``command``: what makes the run in place of ``overread run``, such as ``patches {table} -o {run}``; blank of most.
    ``recipe``: fields that differ from the defaults. ``study``: options of :class:`Study` by their own names. ``needs``:
    what the table must hold, by column or file. ``vary``: the factors of a grid, empty for a single run. ``then``: the
    commands after the run. ``published``: the paper's numbers. ``sections``: where the paper says it, by field, and how
    this differs. Raises :class:`InputError` for fields that do not exist, and :class:`ArgumentError` for their values.
    """

    name: str
    recipe: dict[str, Any] = field(hash=False)
    paper: Paper
    study: dict[str, Any] = field(default_factory=dict, hash=False)
    needs: dict[str, str] = field(default_factory=dict, hash=False)
    vary: dict[str, list[Any]] = field(default_factory=dict, hash=False)
    then: tuple[str, ...] = ()
    published: tuple[PublishedNumber, ...] = ()
    sections: dict[str, str] = field(default_factory=dict, hash=False)
    reduced: Reduced = field(default_factory=Reduced)
    command: str = ""

    def __post_init__(self) -> None:
        for line in filter(None, (self.command, self.reduced.command)):
            _maker(line, {})
        for fields, study, vary in (
            (self.recipe, self.study, self.vary),
            (self.recipe | self.reduced.recipe, self.study | self.reduced.study, self.reduced.vary),
        ):
            build(Recipe, fields, where=self.name)
            Study.from_flat(table="table.csv", **_as_given(study))
            require(all(values for values in vary.values()), "a factor needs values", given=self.name)
        for line in (*self.then, *(self.reduced.then or ())):
            _command(line, {})

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Of what the table must hold the columns that have to be named: those that are guessed need not be."""
        return tuple(name for name in self.needs if name in settings(Columns) and name not in GUESSED)

    @property
    def needed_options(self) -> tuple[str, ...]:
        """:attr:`needed_columns` as they are named on the command line."""
        about = settings(Columns)
        return tuple(
            f"--{name.replace('_', '-')} {'FILE' if about[name].path else 'COLUMN'}" for name in self.needed_columns
        )

    @property
    def options(self) -> dict[str, Any]:
        """:attr:`study` as :meth:`Study.from_flat` takes it."""
        return _as_given(self.study)

    def smaller(self) -> PublishedSystem:
        """The same system as :attr:`reduced` has it: for a laptop, in minutes."""
        small = self.reduced
        then = self.then if small.then is None else small.then
        return PublishedSystem(self.name, self.recipe | small.recipe, self.paper, self.study | small.study, self.needs,
                               {**self.vary, **small.vary} if self.vary else small.vary, then, self.published, self.sections, small, small.command or self.command)  # fmt: skip

    def differences(self) -> tuple[str, ...]:
        """What :attr:`reduced` changes, a line each: the field, this value and the paper's; names of columns are no change."""
        small, usual, asked = self.reduced, plain(Recipe()), plain(Study("table.csv").flat())
        recipe = [_changed(name, value, self.recipe.get(name, usual[name])) for name, value in small.recipe.items()]
        study = [_changed(name, value, self.study.get(name, asked[name]), "nothing") for name, value in small.study.items()
                 if name not in settings(Columns) and plain(value) != plain(self.study.get(name, asked[name]))]  # fmt: skip
        then = [f"without `overread {line}`" for line in self.then if small.then is not None and line not in small.then]
        added = [f"`overread {line}`" for line in small.then or () if line not in self.then]
        vary = [f"{name}: {_levels(values)} in place of {_levels(self.vary.get(name, []))}" for name, values in self.reduced.vary.items()]  # fmt: skip
        phantom = ", ".join(f"{name} {_shown(value)}" for name, value in self.reduced.phantom.items())
        return (
            *([f"a phantom in place of {self.paper.data} ({phantom})"] if phantom else []),
            *([f"`overread {small.command}` in place of `overread {self.command}`"] if small.command else []),
            *recipe,
            *study,
            *vary,
            *then,
            *added,
        )


@checked
def load_system(choice: str | Path) -> PublishedSystem | None:
    """The published system of a recipe's name or file; None of a recipe that has no ``[paper]``.

    Raises :class:`InputError` for an unknown name, an unknown section or field (the nearest is named) and a broken file.
    """
    held = read_fields(recipe_file(choice))
    if "paper" not in held:
        return None
    recipe = {name: value for name, value in held.items() if name not in SYSTEM_SECTIONS}
    sections = {name: value for name, value in held.items() if name in SYSTEM_SECTIONS}
    return build(
        PublishedSystem,
        {"name": recipe.get("name", Path(choice).stem), "recipe": recipe, **sections},
        where=Path(choice).name,
    )  # type: ignore[no-any-return]


@checked
def systems() -> dict[str, PublishedSystem]:
    """The published systems that come with overread, by name."""
    found = ((name, load_system(name)) for name in bundled())
    return {name: system for name, system in found if system is not None}


@checked
def as_published(study: Study, system: PublishedSystem, given: Collection[str]) -> Study:
    """The study with what the paper fixes, except what was ``given`` by whoever asks.

    Raises :class:`InputError` where the table's columns that the system needs were not named.
    """
    fixed = {name: value for name, value in system.options.items() if name not in given}
    study = study.changed(**fixed)
    flat = study.flat()
    missing = [name for name in system.needed_columns if not flat[name]]
    if missing:
        needed = "; ".join(f"{name}: {system.needs[name]}" for name in missing)
        options = [option for name, option in zip(system.needed_columns, system.needed_options) if name in missing]
        raise InputError(
            f"{system.name} needs to know more of the table", given=needed, todo="name " + " and ".join(options)
        )
    return study


@checked
def commands(system: PublishedSystem, places: Mapping[str, str]) -> list[tuple[list[str], str]]:
    """The commands that follow the run, as words, each with the reason why it cannot be run (blank where it can).

    ``places``: what stands for ``{run}``, ``{table}``, ``{readers}``; a blank one is not there.
    """
    return [_command(line, places) for line in system.then]


@checked
def maker(system: PublishedSystem, places: Mapping[str, str]) -> list[str]:
    """The words of the command that makes the run of a system whose ``command`` is not blank."""
    return _maker(system.command, places)


@checked
def judged_by(system: PublishedSystem, folder: Path, places: Mapping[str, str]) -> str:
    """A hash of all that the commands after the run depend on: while it stays the same, they need not be run again."""
    found = [folder / "evaluation" / "metrics.json", folder / "grid.json", *(Path(places[name]) for name in ("table", "readers") if places.get(name))]  # fmt: skip
    return fingerprint([system.then, [sha256_file(path) for path in found if path.is_file()]])


def _maker(line: str, places: Mapping[str, str]) -> list[str]:
    words = shlex.split(line)
    one_of(words[0] if words else "", MAKERS, "a command that makes a run")
    if not any(flag in OUTPUT and place == "{run}" for flag, place in pairwise(words)):
        raise InputError("a command that makes a run writes into its folder", given=line, todo="write -o {run}")
    return _placed(words, places)[0]


def _command(line: str, places: Mapping[str, str]) -> tuple[list[str], str]:
    words = shlex.split(line)
    one_of(words[0] if words else "", AFTER, "a command that follows a run")
    for flag, after in pairwise([*words, ""]):
        place = after if flag in OUTPUT else flag.partition("=")[2] if flag.partition("=")[0] in OUTPUT else None
        if place is not None and (not place.startswith("{run}/") or ".." in Path(place).parts):
            raise InputError(
                "a command that follows a run writes into its folder", given=line, todo="write -o {run}/NAME"
            )
    return _placed(words, places)


def _placed(words: Sequence[str], places: Mapping[str, str]) -> tuple[list[str], str]:
    """The words with what stands for their places, and what is missing."""
    made, missing = [], ""
    for word in words:
        for place in PLACES:
            mark = "{" + place + "}"
            if mark in word:
                missing = missing or (
                    "" if places.get(place, "-") else f"there is no table of {place}: give --{place} FILE"
                )
                word = word.replace(mark, places.get(place, ""))
        made.append(word)
        if "{" in word and "}" in word:
            raise InputError("a command that follows a run has an unknown place", given=word,
                             todo=nearest(word.strip("{}"), PLACES))  # fmt: skip
    return made, missing


@checked
@contextmanager
def kept_copy(choice: str | Path, folder: Path, *, reduced: bool = False) -> Iterator[None]:
    """Have the recipe's file in the run's ``folder`` while the run is made and afterwards, where it is found when the run
    goes on; a run that cannot begin leaves none behind.

    Raises :class:`InputError` for a folder that holds the run of another system, or of this one in its other form.
    """
    text, path = Path(recipe_file(choice)).read_text("utf-8"), folder / (REDUCED_COPY if reduced else COPY)
    other = folder / (COPY if reduced else REDUCED_COPY)
    begun = any((folder / name).exists() for name in BEGUN)
    if begun and (other.exists() or (path.exists() and path.read_text("utf-8") != text)):
        raise InputError("the folder holds the run of another published system, or of this one in another form", given=str(folder),
                         todo="choose another folder with -o, or delete this one")  # fmt: skip
    home, there = folder.exists(), path.exists()
    write_text(path, text)
    try:
        yield
    except OverreadError:
        if not (any((folder / name).exists() for name in BEGUN) or there):
            path.unlink()
            with suppress(OSError):  # somebody else's, or with files that say more
                if not home:
                    folder.rmdir()
        raise


@checked
def copy_in(folder: Path) -> tuple[PublishedSystem, Path, tuple[str, ...]] | None:
    """The system whose run lies in ``folder``, its file, and what was made smaller; None where it is no system's."""
    for name, reduced in ((COPY, False), (REDUCED_COPY, True)):
        system = load_system(folder / name) if (folder / name).exists() else None
        if system is not None:
            return (system.smaller(), folder / name, system.differences()) if reduced else (system, folder / name, ())
    return None


@checked
def write_beside(
    system: PublishedSystem, folder: Path, *, left_out: Sequence[str] = (), reduced: Sequence[str] = ()
) -> BesidePaper:
    """``published/``: the paper's table with the run's numbers beside it, as JSON and as a page.

    ``left_out``: commands of the recipe that were not run, with their reasons; ``reduced``: what was made smaller.
    """
    from overread.reporting.pages.compare import published_page

    found = beside_paper(
        folder, system.published, system=system.name, paper=system.paper.citation, left_out=left_out, reduced=reduced
    )
    home = found.save(folder / TABLE_FOLDER)
    published_page(found, home, title=system.paper.title, source=f"{system.paper.authors}: {system.paper.title} ({system.paper.year}), doi:{system.paper.doi}",
                   sections=system.sections)  # fmt: skip
    return found


@checked
def explained(system: PublishedSystem) -> list[tuple[str, str, str]]:
    """Every field of a system: its name, its value, and what the paper says of it; in the order of the file."""
    rows = [(name, value) for name, value in system.recipe.items()]
    rows += [("command", system.command)] if system.command else []
    rows += list(system.study.items()) + [(name, values) for name, values in system.vary.items()]
    rows += [("then", line) for line in system.then]
    known = {name for name, _ in rows}
    told = [(name, _shown(value), system.sections.get(name, "")) for name, value in rows]
    return told + [(name, "", text) for name, text in system.sections.items() if name not in known]


def _changed(name: str, value: Any, paper: Any, blank: str = CHOSEN) -> str:
    return f"{name} {_shown(value) if value else blank} in place of {_shown(paper) if paper else blank}"


def _levels(values: Sequence[Any]) -> str:
    """The levels of a factor: of one that has a name that alone."""
    return ", ".join(_shown(v.get("name", v)) if isinstance(v, Mapping) else _shown(v) for v in values) or "none"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_given(study: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of TOML as the tuples that a study has."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in study.items()}
