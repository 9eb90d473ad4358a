"""Options of the commands, made from the fields of dataclasses (:mod:`overread.core.settings`), and how help shows
them.

A command that takes a group of settings has one parameter for it, of the group's class; :func:`expanded` puts an option
for each of its fields in the place of that parameter.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from overread.cases.sources.layout import pairs_of
from overread.cli.console import without_empty_folders
from overread.core.errors import InputError
from overread.core.settings import Setting, require_allowed, setting, settings
from overread.study.question import Columns, OperatingRule, Resources, Study, Training

if TYPE_CHECKING:
    from overread.predictions import Predictions

#: Heading of the options that most people need, which stand first.
FIRST = "Options"


@dataclass(frozen=True)
class Only:
    """The fields of a group that a command takes."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class RecipeChoice:
    """How to train: the recipe, and the most asked-for of its fields."""

    recipe: str = setting(
        "auto",
        "auto, features, finetune, scratch, a published system of `overread recipes`, or a .toml file",
        first=True,
    )
    epochs: int = setting(0, "passes over the training images; 0: chosen", least=0)
    backbone: str = setting("", "the network, see `overread recipes`")
    image_size: int = setting(0, "side in pixels; 0: chosen", least=0)
    batch_size: int = setting(0, "images in a step; 0: chosen", least=0)
    members: int = setting(
        0,
        "networks that answer together, each trained without one fold of the patients; 0: chosen",
        option="--folds",
        least=0,
        most=50,
    )
    window: str = setting(
        "", "lung, bone, soft tissue, brain …, or centre/width, or low:high (-1000:400); the file's own if not given"
    )
    crop: str = setting(
        "", "none, border (black borders), or field (the circle of a fundus photograph); none if not given"
    )
    fusion: str = setting(
        "",
        "mean, late, concat, stacked, recurrent, attention or gated-attention: the images of a case are seen together; single, each on its own, if not given",
    )
    extra_inputs: tuple[str, ...] = setting(
        (),
        "numeric columns that the network is shown beside the pixels of each image, such as displacement",
        option="--inputs",
    )
    settings: tuple[str, ...] = setting(
        (), "any other field of the recipe: key=value; may be repeated", option="--set", repeated=True
    )


@dataclass(frozen=True)
class PredictionTable:
    """How to read the predictions."""

    positive: tuple[str, ...] = setting(
        (),
        "classes that count as disease, separated by commas; of two, asked for where their names leave a doubt",
        first=True,
    )
    rename_label: tuple[str, ...] = setting(
        (),
        "old=new: a label that is written otherwise than its class; may be repeated; blank after = for unknown",
        repeated=True,
    )
    identifiers: str = setting(
        "", "cases and patients that differ only in capitals, leading zeros or separators: same or as-written (two)"
    )
    derive: tuple[str, ...] = setting(
        (),
        'a finding that follows from others by a rule, such as "referable = moderate or oedema"; may be repeated',
        repeated=True,
    )
    derive_by: str = setting(
        "max",
        "the probability of a derived finding: max (of those joined by or), or noisy-or (as if they were independent)",
        choices=("max", "noisy-or"),
    )
    taxonomy: str = setting(
        "", "table of child and parent: the tree that the classes stand in; a run's own if not given"
    )
    judge_at: str = setting(
        "",
        "the level of the tree to judge at: a class has the sum of the probabilities below it; of a run several, separated by commas",
    )

    def __post_init__(self) -> None:
        require_allowed(self)

    def coarse(self, predictions: Predictions) -> Predictions:
        """The predictions at the level that was asked for, if one was."""
        from overread.tasks.taxonomy import read_taxonomy

        if bool(self.taxonomy) != bool(self.judge_at):
            raise InputError("a level is one of a tree", given=f"--judge-at {self.judge_at}" if self.judge_at else f"--taxonomy {self.taxonomy}",
                             todo="give both: --taxonomy tree.csv --judge-at LEVEL")  # fmt: skip
        return (
            predictions.at_level(read_taxonomy(self.taxonomy), self.judge_at, self.positive)
            if self.judge_at
            else predictions
        )

    @property
    def how(self) -> dict[str, Any]:
        """As ``Predictions.read`` takes it."""
        positive = () if self.judge_at else self.positive
        return {"positive": positive, "rename": pairs_of(self.rename_label), "identifiers": self.identifiers}

    def read(self, path: str | Path) -> Predictions:
        """The table; of several an error says which."""
        from overread.cases.derived import rules_of
        from overread.core.errors import OverreadError
        from overread.predictions import Predictions

        try:
            read = Predictions.read(path, **self.how)
            return self.coarse(read.derive(rules_of(self.derive), self.derive_by) if self.derive else read)
        except OverreadError as error:
            name = Path(path).name
            what = error.what if name in str(error) else f"{name}: {error.what}"
            given = None if error.given is None else " ".join(str(error.given).split())
            raise type(error)(what, given=given, todo=error.todo) from error


@dataclass(frozen=True)
class Machine:
    """What to use of this machine."""

    cache: str = setting("", "folder for decoded images and features", env="OVERREAD_CACHE")
    offline: bool = setting(False, "do not even try to fetch weights")


# -- from a field to an option --------------------------------------------------------------------------------------


def option_of(kind: type, name: str, heading: str = "") -> Any:
    """The option of one field, for a command that takes it alone."""
    about = settings(kind)[name]
    flag = about.option or "--" + name.replace("_", "-")
    limits: dict[str, Any] = {"min": about.least, "max": about.most}
    flags = (flag, about.also) if about.also else (flag,)
    return typer.Option(*flags, help=about.help, envvar=about.env or None, rich_help_panel=heading or None, **limits)


def expanded(command: Callable) -> Callable:
    """``command`` with options in the place of its groups; they are put together again when it is called."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, tuple[str, ...]]] = {}
    taken: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not (isinstance(kind, type) and is_dataclass(kind)):
            taken.append(parameter.replace(annotation=hints[name]))
            continue
        only = [extra.names for extra in extras if isinstance(extra, Only)]
        fields = only[0] if only else tuple(name for name, about in settings(kind).items() if about.offered)
        groups[name] = (kind, fields)
        taken += [_parameter(kind, field) for field in fields]

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        built: dict[str, Any] = {}
        for name, (kind, fields) in groups.items():
            built[name] = kind(**{field: _value(settings(kind)[field], given.pop(field)) for field in fields})
        return command(**given, **built)

    signature = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in taken])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in taken}
    return called


def _parameter(kind: type, name: str) -> inspect.Parameter:
    about = settings(kind)[name]
    heading = "" if about.first else (kind.__doc__ or "").partition("\n")[0].partition(":")[0].rstrip(".")
    what: Any = type(about.default)
    default = about.default
    if about.repeated:
        what, default = list[str], []
    elif what is tuple:
        what, default = str, ",".join(default)
    elif what is bool:
        default = False  # given, it turns the setting to what it is not by default
    option = Annotated[what, option_of(kind, name, heading)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)


def _value(about: Setting, given: Any) -> Any:
    if isinstance(about.default, bool):
        return about.default != given
    if not isinstance(about.default, tuple):
        return given
    return tuple(given) if about.repeated else listed(given)


def listed(text: str) -> tuple[str, ...]:
    """The values of a text that holds several, separated by commas.

    >>> listed("a, b")
    ('a', 'b')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


# -- options that several commands share ----------------------------------------------------------------------------

Table = Annotated[str, typer.Argument(help=settings(Study)["table"].help)]
Export = Annotated[str, typer.Argument(help="DICOM files: a folder, a DICOMDIR or a zip")]
Folder = Annotated[Path, typer.Argument(help="a run's folder, such as runs/skin")]
Out = Annotated[Path, typer.Option("-o", "--output", help="the run's folder")]
Level = Annotated[float, typer.Option(min=0.5, max=0.999, help="of the intervals", rich_help_panel="How to count")]
BootstrapSeed = Annotated[int, typer.Option(min=0, help="of the bootstrap", rich_help_panel="How to count")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="print every number and every note", rich_help_panel="What it says")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs instead of text")]
AllowSeen = Annotated[
    bool,
    typer.Option("--allow-seen", help="judge patients that the model was trained or tuned on, and say so on the page"),
]
Subgroups = Annotated[list[str], option_of(Columns, "subgroups")]
Names = Annotated[str, option_of(Columns, "names")]
Budget = Annotated[str, option_of(Resources, "budget")]
Threads = Annotated[int, option_of(Resources, "threads")]
Weights = Annotated[str, option_of(Training, "weights")]
Cache = Annotated[str, option_of(Machine, "cache")]
Offline = Annotated[bool, option_of(Machine, "offline")]
NetBenefitAt = Annotated[float, option_of(OperatingRule, "net_benefit_at")]
Margin = Annotated[float, option_of(OperatingRule, "margin")]


def given_options(context: typer.Context) -> frozenset[str]:
    """The names of the parameters that whoever called the command has said, on the command line or by a variable."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name != "DEFAULT")


# -- how help shows them --------------------------------------------------------------------------------------------


def _as_share(error: typer.BadParameter, args: list[str]) -> str:
    """What to write in place of ``95`` or ``95%`` where a share from 0 to 1 is wanted; nothing for other errors."""
    most = getattr(error.param, "max", None) or getattr(getattr(error.param, "type", None), "max", None)
    flags = [] if error.param is None or most is None or most > 1 else error.param.opts
    given = [after for flag, after in pairwise([*args, ""]) if flag in flags]
    given += [word.partition("=")[2] for word in args if word.partition("=")[0] in flags]
    found = [float(number[1]) / 100 for text in given if (number := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text))]
    return f"It is a share: write {found[-1]:g}" if found and found[-1] <= 1 else ""


class HelpWithHeadings(TyperCommand):
    """A command whose help shows the options that most people need, then the others under headings."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """As typer does; of a share that was given in per cent the error says how to write it."""
        given = list(args)  # the parser takes them away
        try:
            return super().parse_args(context, args)
        except typer.BadParameter as error:
            if hint := _as_share(error, given):
                error.message = f"{error.message.rstrip('.')}. {hint}"
            raise

    def invoke(self, context: Any) -> Any:
        """As typer does; a folder that was made for what the command did not come to write is gone afterwards."""
        with without_empty_folders():
            return super().invoke(context)

    def format_options(self, context: Any, formatter: Any) -> None:
        """Write the arguments, then the options, by their headings."""
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], FIRST: []}
        for parameter in self.get_params(context):
            option = isinstance(parameter, TyperOption)
            heading = (getattr(parameter, "rich_help_panel", None) or FIRST) if option else "Arguments"
            if (record := parameter.get_help_record(context)) is not None:
                found.setdefault(heading, []).append(record)
        for heading, rows in found.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class Commands(TyperGroup):
    """A group of commands whose own ``--help`` has a value when it is not given: to check none takes a sixth of a second."""

    def get_help_option(self, context: Any) -> Any:
        """The option ``--help``, off by default."""
        found = super().get_help_option(context)
        if found is not None:
            found.default = False
        return found
