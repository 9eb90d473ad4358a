"""Cases from what people have: a table (CSV, TSV, Parquet), a folder of class folders, a MedMNIST archive."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from overread.cases.cases import ROLES, WHOLE, Cases, Planes, typed
from overread.cases.graded_cases import Asked, GradedCases, judged
from overread.cases.query import matching
from overread.cases.sources import dicom_export
from overread.cases.sources.catalogue import class_names, read_archive
from overread.cases.sources.labels import join_labels, one_label, quantity, several_findings
from overread.cases.sources.renderings import DECIDING, for_people
from overread.cases.sources.tables import (
    ENDINGS,
    Roles,
    class_folders,
    find,
    is_split,
    known,
    locate,
    missing,
    numbered,
    parts,
    read_folder,
    read_table,
)
from overread.cases.volumes import cut
from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.progress import Progress, silent
from overread.tasks.target import TASKS, Kind, Target
from overread.tasks.task import Task

NO_PATIENT = "patient: no column says who the patient is, so each image counts as a patient of its own"


@checked
def read_cases(
    path: str | os.PathLike[str], *, image: str | None = None, label: str | None = None, patient: str | None = None,
    case: str | None = None, source: str | None = None, view: str | None = None, time: str | None = None,
    split: str | None = None, labels: Sequence[str] | None = None, value: str | None = None,
    positive: Sequence[str] = (), subgroups: Sequence[str] = (), kind: Kind | None = None, names: str = "hash", salt: str = "",
    where: str = "", labels_from: str | os.PathLike[str] | None = None, key: str = "", planes: Planes = WHOLE, progress: Progress = silent,
    graders: Asked | None = None, consensus: str = "majority",
) -> Cases:  # fmt: skip
    """Read a table of cases: a CSV, TSV or Parquet file, a folder of class folders, a MedMNIST ``.npz``, or an export of
    DICOM files (a folder, a DICOMDIR, a zip).

    The names are columns of the table. One of ``label`` (class names), ``labels`` (a column of 1, 0 or blank per
    finding) and ``value`` (a number) says what is to be learned. What is not named is guessed where a column's name
    leaves no doubt, and ``Cases.notes`` says so. ``positive``: classes that count as disease. ``subgroups``: columns
    that must be there for later. ``where``: a query for the rows to take, such as ``modality == 'DX' and age >= 18``.
    Paths of images are relative to the table. ``labels_from``: for DICOM, a table of
    labels, joined by the identifier ``key`` (``patient``, ``study``, ``series``, ``instance``, ``accession`` or ``file``;
    found out if not given). ``graders``: a table of several readers' answers (see :func:`.read_grades`), or columns of
    this one, a reader each; their ``consensus`` is the label (``majority``, ``median`` or ``dawid-skene``), and the
    column ``agreement`` says how many gave it. ``planes``: what to look at in volumes. ``names``: ``hash`` puts codes in the place
    of cases and patients, by ``salt`` where the study has one, and leaves out columns that may identify (see
    :mod:`.privacy`); ``keep`` leaves all as it is, for data whose names identify nobody.

    Raises :class:`InputError` for a missing file, an unknown column (naming the nearest), an empty table, labels that
    cannot be read, a case that stands twice, or images that are not there.
    """
    path = Path(os.path.abspath(path))
    named = {"image": image, "case": case, "patient": patient, "source": source, "view": view, "time": time, "split": split}  # fmt: skip
    require(sum(x is not None for x in (label, labels, value, graders)) <= 1, "give one of label, labels, value and graders")  # fmt: skip
    task, readers = TASKS[kind] if kind else None, "graders" if graders else None
    wanted = Wanted(label, labels, value, positive, subgroups, task, where, graders, consensus)
    no_columns: dict[str, str | None] = {"label": label, "value": value, "where": where or None, "graders": readers}
    if labels_from is not None or dicom_export.is_tree(path):
        read = _from_tree(path, named, wanted, labels_from, key, progress)
    elif path.is_dir():
        read = _from_folder(path, positive, named | no_columns)
    elif path.suffix.lower() == ".npz":  # rows have numbers, not names
        return cut(_from_archive(path, positive, task, named | no_columns), planes)
    elif not path.exists():
        raise missing(path)
    elif path.with_suffix(".target.json").exists() and label is labels is value is graders is None:
        return Cases.load(path)
    else:
        read = _from_table(read_table(path), path.parent, named, wanted)
    return cut(read.hidden(names=names, salt=salt, keep=(*subgroups, *planes.point)), planes)


@dataclass(frozen=True)
class Wanted:
    """What is to be learned, and what is to be carried along, as it was asked for."""

    label: str | None = None
    labels: Sequence[str] | None = None
    value: str | None = None
    positive: Sequence[str] = ()
    subgroups: Sequence[str] = ()
    task: type[Task] | None = None
    where: str = ""
    graders: Asked | None = None
    consensus: str = "majority"


# -- a table -----------------------------------------------------------------------------------------------------


def _from_table(table: pd.DataFrame, root: Path, named: dict[str, str | None], want: Wanted) -> Cases:
    table, taken = _taken(table, want.where)
    roles = Roles(table)
    for name in want.subgroups:
        find([*roles.columns, *(["agreement"] if want.graders else [])], name, "subgroup")
    columns = _columns(roles, named)
    if not want.graders:
        wanted, target, notes = _target(roles, want)
        made, found = _identify(table, root, roles, columns)
        return Cases(_joined(made, wanted, roles, want), target, str(root), (*taken, *roles.notes, *notes, *found))
    graders = want.graders
    if not isinstance(graders, (str, os.PathLike)):  # these columns are left behind, since they name people
        graders = [find(roles.columns, name, "graders") for name in graders]
        roles.taken.update(dict.fromkeys(graders, "grader"))
    made, found = _identify(table, root, roles, columns)
    rule = want.consensus
    wanted, target, notes, grades = judged(made, table, graders, rule=rule, positive=want.positive, task=want.task)
    joined, notes = _joined(made, wanted, roles, want), [*taken, *roles.notes, *notes, *found]
    return GradedCases(joined, target, str(root), tuple(notes), grades=grades, rule=rule)


def _joined(made: pd.DataFrame, wanted: pd.DataFrame, roles: Roles, want: Wanted) -> pd.DataFrame:
    """With every other column; one that a role has taken is carried too if it is a subgroup of another name."""
    used, taken = {*made.columns, *wanted.columns}, roles.taken.keys() - set(want.subgroups)
    extra = {c: typed(roles.table[c]) for c in roles.columns if c not in used | taken}
    return pd.concat([made, wanted, pd.DataFrame(extra, index=made.index)], axis=1)


def _taken(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    if not where:
        return table, []
    rows = matching(table.apply(typed), where)
    if not rows.any():
        todo = "see `overread scan` or the table for what is there"
        raise InputError("no row fulfils the query", given=where, todo=todo)
    return table[rows], [f"where {where}: {int(rows.sum()):,} of {len(table):,} rows"]


def _columns(roles: Roles, named: dict[str, str | None]) -> dict[str, str | None]:
    """The column of each role; roles that were named go first, so that no guess takes their column."""
    columns: dict[str, str | None] = dict.fromkeys(ROLES)
    for role in sorted(named, key=lambda role: named[role] is None):
        fits = {"split": is_split, "case": lambda column: column.is_unique}.get(role)
        columns[role] = roles.take(role, named[role], fits)
    if columns["image"] is None:
        raise InputError("no column names the images", given=f"columns {', '.join(roles.columns[:30])}",
                         todo=f"name it with --image; {nearest('image', roles.columns)}")  # fmt: skip
    return columns


def _target(roles: Roles, want: Wanted) -> tuple[pd.DataFrame, Target, list[str]]:
    labels, task = want.labels, want.task
    if labels is want.label is want.value is None and (task is None or task.multilabel):
        labels = [c for c in roles.columns if c.startswith("label:")] or None
    if labels is not None:
        require(len(labels) > 0, "labels needs at least one column")
        columns = [find(roles.columns, name, "labels") for name in labels]
        roles.taken.update(dict.fromkeys(columns, "label"))
        return several_findings(roles.table, columns, want.positive)
    column = roles.take("value", want.value) if want.value else roles.take("label", want.label)
    if column is None:
        raise InputError("no column says what is to be learned", given=f"columns {', '.join(roles.columns[:30])}",
                         todo="name it with --label, several findings with --labels, a quantity with --value")  # fmt: skip
    if want.value is not None or (task and task.continuous):
        return quantity(roles.table[column], column)
    return one_label(roles.table[column], want.positive, task, column)


def _identify(
    table: pd.DataFrame, root: Path, roles: Roles, columns: dict[str, str | None]
) -> tuple[pd.DataFrame, list[str]]:
    """The columns of the roles, and where the images were found.

    ``case`` and ``patient`` are filled where the table does not say them, names that contradict each other refused.
    """
    made = pd.DataFrame({role: table[name] if name else "" for role, name in columns.items()}, index=table.index)
    made["image"], found = locate(made["image"], root)
    case = known(made["case"]) if columns["case"] else _stems(made["image"])
    made["case"] = case.where(case != "", made["image"])
    patient = known(made["patient"])
    blank = int((patient == "").sum())
    if columns["patient"] is None:
        roles.notes.append(NO_PATIENT + "; name the column with --patient")
    elif blank:
        roles.notes.append(f"patient: {blank:,} images without one count as patients of their own")
    made["patient"] = patient.where(patient != "", "case " + made["case"] if columns["patient"] else made["case"])
    made["split"] = parts(made["split"])
    _refuse_twice(made)
    return made, found


def _stems(images: pd.Series) -> pd.Series:
    """File names without folder and ending where these are enough, else whole paths."""
    names = images.str.replace(r"^.*/", "", regex=True)
    stems = names.str.replace(r"(\.nii\.gz|\.jp2|\.j2k|\.[A-Za-z]+)$", "", regex=True)
    return stems if stems.is_unique else images


def _refuse_twice(made: pd.DataFrame) -> None:
    twice = made.duplicated(["case", "view", "time"], keep=False)
    if twice.any():
        raise InputError(
            "a case stands on more than one row", given=f"{int(twice.sum()):,} rows, first {numbered(twice)}",
            todo="remove the repeated rows, choose another column with --case, or tell the images of one case apart with --view",
        )  # fmt: skip
    torn = made.groupby("case")["patient"].transform("nunique") > 1
    if torn.any():
        raise InputError("a case belongs to two patients", given=f"{made['case'][torn].nunique():,} cases, first {numbered(torn)}",
                         todo="correct the table, or choose another column with --case")  # fmt: skip


# -- an export of DICOM files -----------------------------------------------------------------------------------


#: The columns of the table of an export, by their roles.
_OF_EXPORTS = {role: role for role in ("image", "case", "patient", "source", "view")}


def _from_tree(path: Path, named: dict[str, str | None], want: Wanted, labels_from: str | os.PathLike[str] | None,
               key: str, progress: Progress) -> Cases:  # fmt: skip
    """Cases from headers; labels from a table, a column, or the folders that the files lie in."""
    if not path.exists():
        raise missing(path)
    found = dicom_export.read_tree(path, progress=progress)
    table, notes = found.table, [*found.notes, *found.problems]
    roles = dict(_OF_EXPORTS)
    if labels_from is not None:
        table, more = join_labels(found.table, read_table(Path(labels_from)), key)
        notes += more
    if not any(name in want.where for name in DECIDING):
        kept, more = for_people(table)
        table, notes = table[kept].reset_index(drop=True), [*notes, *more]
    if labels_from is None and want.label is want.labels is want.value is want.graders is None:
        folders = class_folders(table["image"].tolist())
        if (table["patient"] != "").any():  # a patient's folder counts where no header says who the patient is
            del folders["patient"]
        table, roles, want = table.assign(**folders), roles | {"split": "split"}, replace(want, label="label")
        notes.append("label: the name of the folder")
    given = {role: column for role, column in named.items() if column is not None}
    read = _from_table(table.astype(str), Path(found.root), {**named, **roles, **given}, want)
    return replace(read, notes=(*notes, *read.notes))


def _refuse_columns(named: dict[str, str | None], what: str) -> None:
    given = ", ".join(f"--{role}" for role, column in named.items() if column is not None)
    if given:
        raise InputError(f"{what} has no columns to choose from", given=given, todo="leave these out")


def _from_folder(folder: Path, positive: Sequence[str], named: dict[str, str | None]) -> Cases:
    _refuse_columns(named, "a folder of class folders")
    table, notes = read_folder(folder)
    made = table.assign(case=_stems(table["image"]), source="", view="", time="")
    if (made["patient"] == "").all():
        made["patient"] = made["case"]
        notes.append(NO_PATIENT)
    wanted, target, more = one_label(made.pop("label"), positive, None, "label")
    _refuse_twice(made)
    return Cases(pd.concat([made, wanted], axis=1), target, str(folder), (*notes, *more))


def _from_archive(path: Path, positive: Sequence[str], task: type[Task] | None, named: dict[str, str | None]) -> Cases:
    _refuse_columns(named, "an archive")
    if task is not None:
        kind = next(word for word, asked in TASKS.items() if asked is task)
        one_of(kind, [k for k, asked in TASKS.items() if not asked.continuous], "the kind of an archive's labels")
    table, labels = read_archive(path)
    notes: list[str] = []
    names = class_names(path, labels)
    if names:
        notes.append("label: the names of the classes are those of the MedMNIST catalogue")
    made = table.assign(patient=table["case"], source="", view="", time="")
    if labels.shape[1] > 1:
        columns = names or [f"finding {i}" for i in range(labels.shape[1])]
        wanted, target, more = several_findings(pd.DataFrame(labels.astype(str), columns=columns), columns, positive)
    else:
        text = pd.Series(labels[:, 0]).astype(str)
        named_text = text.map({str(i): name for i, name in enumerate(names)}) if names else text
        wanted, target, more = one_label(named_text, positive, task, "labels", names or ())
    return Cases(pd.concat([made, wanted], axis=1), target, str(path.parent), (*notes, NO_PATIENT, *more))


# -- new images for a model that exists: the labels may be missing, the target is the model's ---------------------


@checked
def read_images(
    path: str | os.PathLike[str], target: Target, *, image: str | None = None, label: str | None = None,
    patient: str | None = None, case: str | None = None, source: str | None = None, names: str = "hash", salt: str = "",
    planes: Planes = WHOLE, progress: Progress = silent,
) -> Cases:  # fmt: skip
    """One image, a folder of images, an export of DICOM files, or a table of images, as cases of ``target``.

    ``label`` names a column of classes where they are known, so that the predictions can be judged. ``names``,
    ``salt`` and ``planes`` as in :func:`read_cases`; with the salt of a model its patients are known again. Raises :class:`InputError` for what is missing, for no image at all, and for labels that the model does not know.
    """
    path = Path(os.path.abspath(path))
    named = {"image": image, "patient": patient, "case": case, "source": source}
    if label is not None:
        kind: Kind | None = "classes" if target.task.exclusive else None  # the model says which class is the disease
        read = read_cases(path, image=image, label=label, patient=patient, case=case, source=source, names=names, salt=salt,
                          planes=planes, progress=progress, kind=kind)  # fmt: skip
        return _labelled(read, target)
    read = _unlabelled(path, named, target, progress)
    return cut(read.hidden(names=names, salt=salt, keep=planes.point), planes)


def _unlabelled(path: Path, named: dict[str, str | None], target: Target, progress: Progress) -> Cases:
    if dicom_export.is_tree(path):
        found = dicom_export.read_tree(path, progress=progress)
        kept, notes = for_people(found.table)
        table = found.table[kept].reset_index(drop=True).astype(str)
        given = {role: column for role, column in named.items() if column is not None}
        new = _new_from_table(table, {**dict.fromkeys(named), **_OF_EXPORTS, **given}, target, Path(found.root))
        return replace(new, notes=(*new.notes, *notes))
    if path.is_dir():
        images = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.name.lower().endswith(ENDINGS))
        return _bare(pd.DataFrame({"image": images}), target, path)
    if path.name.lower().endswith(ENDINGS):
        return _bare(pd.DataFrame({"image": [path.name] if path.exists() else []}), target, path.parent)
    return _new_from_table(read_table(path), named, target, path.parent)


def _new_from_table(table: pd.DataFrame, named: dict[str, str | None], target: Target, root: Path) -> Cases:
    roles = Roles(table)
    made, found = _identify(table, root, roles, _columns(roles, named))
    blank = pd.DataFrame(dict.fromkeys(target.columns, target.task.unknown), index=table.index)
    return Cases(_joined(made, blank, roles, Wanted()), target, str(root), (*roles.notes, *found))


def _labelled(cases: Cases, target: Target) -> Cases:
    strange = [name for name in cases.target.names if name not in target.names]
    if strange:
        raise InputError("the table has classes that the model does not know", given=", ".join(strange[:10]),
                         todo=nearest(strange[0], target.names))  # fmt: skip
    return replace(cases, target=target)


def _bare(table: pd.DataFrame, target: Target, root: Path) -> Cases:
    if table.empty:
        raise InputError("there are no images", given=str(root), todo=f"images end in {', '.join(ENDINGS)}")
    blank = dict.fromkeys(ROLES, "") | dict.fromkeys(target.columns, target.task.unknown)
    made = pd.DataFrame(blank, index=table.index).assign(**dict.fromkeys(("image", "case", "patient"), table["image"]))
    return Cases(made, target, str(root))
