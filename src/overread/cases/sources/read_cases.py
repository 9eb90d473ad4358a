"""Cases from what people have: a table (CSV, TSV, Parquet, Excel), a folder of class folders, a MedMNIST archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from overread.cases.cases import ROLES, WHOLE, Cases, Planes, typed
from overread.cases.derived import Rule, columns_used, rules_of
from overread.cases.frame_stacks import arranged
from overread.cases.graded_cases import Asked, GradedCases, judged, judged_questions
from overread.cases.query import columns_of, matching
from overread.cases.several_questions import questions_of, the_question
from overread.cases.sources import dicom_export
from overread.cases.sources.archive_cases import cases_of_archive
from overread.cases.sources.folders import (
    arrange,
    by_pattern,
    images_below,
    locate,
    masks_among,
    named_like_files,
    offered_patient,
    patient_folders,
    read_folder,
)
from overread.cases.sources.labels import (
    derived_findings,
    findings_in,
    from_one_hot,
    join_labels,
    listed_findings,
    meant,
    one_label,
    quantity,
    several_findings,
    ways_to_label,
)
from overread.cases.sources.layout import Layout
from overread.cases.sources.mask_files import find_masks, masks_joined, microns, without_masks
from overread.cases.sources.outline_files import find_outlines, labels_by_outlines, slides_among
from overread.cases.sources.tables import (
    ENDINGS,
    NO_PATIENT,
    PLAIN,
    Roles,
    find,
    given_parts,
    guess,
    is_split,
    known,
    missing,
    numbered,
    open_frame,
    open_table,
    open_tables,
    parts,
    refuse_twice,
    stems,
)
from overread.core.errors import InputError, checked, nearest, require
from overread.core.identifiers import distinct, identifiers, rewritten
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.images.dicom.stacks import DECIDING, preferred_renderings
from overread.tasks.target import TASKS, Kind, Target
from overread.tasks.task import Task


@checked
def read_cases(
    path: str | os.PathLike[str] | pd.DataFrame, *, image: str | None = None, label: str | None = None, patient: str | None = None,
    case: str | None = None, source: str | None = None, view: str | None = None, time: str | None = None,
    split: str | None = None, labels: Sequence[str] | None = None, value: str | None = None,
    positive: Sequence[str] = (), subgroups: Sequence[str] = (), kind: Kind | None = None, names: str = "hash", salt: str = "",
    where: str = "", labels_from: str | os.PathLike[str] | None = None, key: str = "", planes: Planes = WHOLE, progress: Progress = silent,
    graders: Asked | None = None, consensus: str = "majority", layout: Layout = PLAIN, keep: Sequence[str] = (),
    queries: Sequence[str] = (), derive: Sequence[str] = (), mask: str | None = None, pixel_size: str = "",
    slides: str = "auto", outlines: str | None = None,
) -> Cases:  # fmt: skip
    """Read a table of cases: a CSV, TSV, Parquet or Excel file, a DataFrame, a folder of class folders, a MedMNIST
    ``.npz``, or an export of DICOM files (a folder, a DICOMDIR, a zip).

    The names are columns of the table. One of ``label`` (class names), ``labels`` (a column of 1, 0 or blank per
    finding) and ``value`` (a number) says what is to be learned. What is not named is guessed where a column's name
    leaves no doubt, and ``Cases.notes`` says so. ``positive``: classes that count as disease. ``subgroups``: columns
    that must be there for later. ``where``: a query for the rows to take, such as ``modality == 'DX' and age >= 18``.
    Paths of images are relative to the table, of a DataFrame to the working folder. ``labels_from``: for DICOM, a table of labels, joined by the identifier
    ``key`` (``patient``, ``study``, ``series``, ``instance``, ``accession`` or ``file``; found out if not given).
    ``graders``: a table of several readers' answers (see :func:`.read_grades`), or columns of this one, a reader each;
    their ``consensus`` is the label (``majority``, ``median`` or ``dawid-skene``); of a table with several questions
    ``label`` names the one, or ``labels`` and ``derive`` those that become findings; and the column ``agreement`` says
    how many gave it. ``derive``: findings that follow from other columns by a rule, ``referable = grade >= 2 or oedema
    == 1``, besides ``labels`` or alone (:mod:`.derived`). ``layout``: how the table and its images are laid out, where that cannot be found out
    (:class:`.Layout`). ``mask``: masks (see :func:`.find_masks`): the objects that they outline are what is to be
    learned, unless ``label`` says what the image as a whole shows (then masks are carried along). ``pixel_size``: microns of a pixel, a number or a
    column. ``slides``: whether the images are slides (``auto``: by their content), whose lesions are outlined by ``outlines`` (see
    :func:`.find_outlines`); where nothing says what a slide shows, the outlines do. ``planes``: what to look at in volumes. ``names``: ``hash`` puts codes in the place of cases and
    patients, by ``salt`` where the study has one, and leaves out the columns that are no role, no label, no subgroup,
    not among those to ``keep`` and in none of the ``queries`` that will be asked of the cases (see :mod:`.privacy`);
    ``names="keep"`` leaves all as it is, for data whose names identify nobody.

    Raises :class:`InputError` for a missing file, an unknown column (naming the nearest), an empty table, labels that
    cannot be read, a case that stands twice, or images that are not there.
    """
    frame, path = (path, Path.cwd()) if isinstance(path, pd.DataFrame) else (None, Path(os.path.abspath(path)))
    named = {"image": image, "case": case, "patient": patient, "source": source, "view": view, "time": time, "split": split}  # fmt: skip
    given = (label, labels, value, layout.one_hot or None)
    require(sum(x is not None for x in given) <= 1, "give one of label, labels, value and one_hot")
    apart = graders is None or (value is None and not layout.one_hot)
    require(apart, "graders answer questions, which label or labels name", given="graders beside value or one_hot")
    for role, column in (("patient", patient), ("label", label), ("split", split)):
        require(not (column and getattr(layout, f"{role}_from")), f"the {role} comes from one place", given=f"{role} and {role}_from",
                todo="give one of them")  # fmt: skip
    task, readers = TASKS[kind] if kind else None, "graders" if graders else None
    wanted = Wanted(label, labels, value, positive, subgroups, task, where, graders, consensus, layout, rules_of(derive), planes.point, mask, pixel_size, outlines, planes.tumour)  # fmt: skip
    require(mask is None or (labels is value is graders is None and not derive and not layout.one_hot), "outlines are learned beside no findings, number or readers",
            given="mask", todo="leave labels, value, derive, one_hot and graders out")  # fmt: skip
    require(not derive or (label is value is None and not layout.one_hot), "derived targets are findings, beside which there is no other label",
            given=", ".join(rule.name for rule in wanted.derive), todo="name columns of findings with labels, or leave label, value and one_hot out")  # fmt: skip
    no_columns: dict[str, str | None] = {"label": label, "value": value, "where": where or None, "graders": readers, "derive": "derive" if derive else None, "mask": mask, "pixel_size": pixel_size or None, "outlines": None}  # fmt: skip
    if frame is not None:
        require(labels_from is None, "labels_from is for DICOM files", given="a DataFrame", todo="join the labels with frame.merge(…)")  # fmt: skip
        asked = [*named.values(), label, value, *(labels or ()), *subgroups]
        table, notes = open_frame(frame, [name for name in asked if name])
        read = _from_table(table, path, named, wanted)
        read = replace(read, notes=(*notes, *read.notes))
    elif labels_from is not None or dicom_export.is_tree(path):
        read = _from_tree(path, named, wanted, labels_from, key, progress)
    elif path.is_dir() and mask is not None:
        files, notes = images_below(path, replace(layout, masks="keep"))
        read = _from_table(pd.DataFrame({"image": without_masks(mask, files, path)}), path, named, wanted)
        read = replace(read, notes=(*notes, *read.notes))
    elif path.is_dir():
        read = _from_folder(path, positive, named | no_columns, layout)
    elif path.suffix.lower() == ".npz":  # rows have numbers, not names
        _refuse_columns(named | no_columns, "an archive")
        return arranged(cases_of_archive(path, positive, task), planes)
    elif not path.exists():
        raise missing(path)
    elif path.with_suffix(".target.json").exists() and label is labels is value is graders is mask is None:
        return Cases.load(path)
    else:
        table, notes = open_tables(path, layout)
        read = _from_table(table, path.parent, named, wanted)
        read = replace(read, notes=(*notes, *read.notes))
    for name in keep:
        find(list(read.table.columns), name)
    named_later = [column for query in queries for column in columns_of(query)]
    kept = (*subgroups, *planes.point, *keep, *named_later, *(["pixel_size"] if pixel_size else []))
    read = slides_among(read, "no" if mask is not None else slides, outlines, planes, bool(pixel_size))
    settled = ("sex", "age") if frame is not None else dicom_export.settled_columns(path)
    return arranged(read.hidden(names=names, salt=salt, keep=kept, known=settled), planes)


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
    layout: Layout = PLAIN
    derive: tuple[Rule, ...] = ()
    point: tuple[str, ...] = ()
    mask: str | None = None
    pixel_size: str = ""
    outlines: str | None = None
    tumour: tuple[str, ...] = ()


# -- a table -----------------------------------------------------------------------------------------------------


def _from_table(table: pd.DataFrame, root: Path, named: dict[str, str | None], want: Wanted) -> Cases:
    table, taken = _taken(table, want.where)
    roles = Roles(table)
    for name in want.subgroups:
        find([*roles.columns, *(["agreement"] if want.graders else [])], name, "subgroup")
    columns = _columns(roles, named, root, want.layout)
    if want.mask is not None and want.label is None:
        return _outlined(root, roles, columns, taken, want)
    if want.outlines is not None and not _says_label(roles, want):
        return _of_outlines(root, roles, columns, taken, want, want.outlines)
    if not want.graders:
        labels = _label_columns(roles, want)
        roles.table, lists = _one_row_each(roles, columns, labels, want)
        wanted, target, notes = _target(roles, labels, lists, want)
        if want.layout.blank != "unknown" and not target.task.multilabel:
            raise InputError("a blank cell means something for findings alone", given=f"--blank {want.layout.blank}, {target.task.summary}",
                             todo="leave --blank out, or name the findings with --labels")  # fmt: skip
        if want.layout.renamed and not target.task.exclusive:
            raise InputError("labels are renamed where each image has one", given=f"--rename-label, {target.task.summary}",
                             todo="leave --rename-label out, or name one column with --label")  # fmt: skip
        made, found = _identify(roles.table, root, roles, columns, want.layout)
        joined, notes = _joined(made, wanted.loc[made.index], roles, want), [*taken, *roles.notes, *notes, *found]
        if want.mask is not None:
            masks = find_masks(want.mask, roles.table, made["image"], root)
            joined, notes = joined.assign(mask=masks.addresses), [*notes, *masks.notes]
        return Cases(joined, target, str(root), tuple(notes), identifiers=_answer(made, want.layout), masks=want.mask is not None)  # fmt: skip
    graders = want.graders
    if not isinstance(graders, (str, os.PathLike)):  # these columns are left behind, since they name people
        graders = [find(roles.columns, name, "graders") for name in graders]
        roles.taken.update(dict.fromkeys(graders, "grader"))
    made, found = _identify(table, root, roles, columns, want.layout)
    rule = want.consensus
    if want.labels or want.derive:
        return replace(_of_questions(made, found, table, graders, roles, taken, want), root=str(root))
    asked = the_question(graders, want.label, want.layout.renamed) if want.label else graders
    wanted, target, notes, grades = judged(made, table.loc[made.index], asked, rule=rule, positive=want.positive, task=want.task,
                                           rename=want.layout.renamed)  # fmt: skip
    joined, notes = _joined(made, wanted, roles, want), [*taken, *roles.notes, *notes, *found]
    answer = _answer(made, want.layout)
    return GradedCases(joined, target, str(root), tuple(notes), identifiers=answer, grades=grades, rule=rule)


def _outlined(root: Path, roles: Roles, columns: dict[str, str | None], taken: list[str], want: Wanted) -> Cases:
    """Cases whose objects are outlined by masks."""
    asked = str(want.mask)
    label = [asked] if asked in roles.columns else []
    roles.taken.update(dict.fromkeys(label, "mask"))
    if label and columns["image"]:
        roles.table, more = masks_joined(roles.table, columns["image"], label[0])
        roles.notes += more
    roles.table, _ = _one_row_each(roles, columns, label, want)
    made, found = _identify(roles.table, root, roles, columns, want.layout)
    masks = find_masks(asked, roles.table, made["image"], root)
    joined = _joined(made, pd.DataFrame({"mask": masks.addresses}), roles, want)
    notes = (*taken, *roles.notes, *found, *masks.notes)
    return Cases(joined, Target("segmentation", masks.names), str(root), notes, identifiers=_answer(made, want.layout))


def _says_label(roles: Roles, want: Wanted) -> bool:
    """Whether anything says what an image shows, which its outlines would say otherwise."""
    told = (want.label, want.labels, want.value, want.graders, want.layout.one_hot, want.layout.label_from, want.derive)
    free = [c for c in roles.columns if c not in roles.taken and c != want.outlines]
    return any(told) or guess("label", free) is not None or any(c.startswith("label:") for c in free)


def _of_outlines(root: Path, roles: Roles, columns: dict[str, str | None], taken: list[str], want: Wanted, asked: str) -> Cases:  # fmt: skip
    """Cases whose slides are labelled by their outlines: tumour where a lesion is outlined, else normal."""
    roles.table, _ = _one_row_each(roles, columns, [], want)
    made, found = _identify(roles.table, root, roles, columns, want.layout)
    files = find_outlines(asked, roles.table, made["image"], root).files
    values, more = labels_by_outlines(files, made["image"], root, microns(want.pixel_size, roles.table.loc[made.index]) if want.pixel_size else None, want.tumour)  # fmt: skip
    wanted, target, notes = one_label(values, want.positive, want.task, "outlines", rename=want.layout.renamed)
    told = (*taken, *roles.notes, *found, *more, *notes)
    return Cases(_joined(made, wanted, roles, want), target, str(root), told, identifiers=_answer(made, want.layout))


def _of_questions(
    made: pd.DataFrame, found: list[str], table: pd.DataFrame, graders: Asked, roles: Roles, taken: list[str], want: Wanted
) -> GradedCases:  # fmt: skip
    """Cases whose findings are the consensus on several questions, and what follows from it by rules."""
    rule, labels = want.consensus, [name.removeprefix("label:") for name in want.labels or ()]
    wanted, target, notes, answers = judged_questions(made, table.loc[made.index], questions_of(graders, want.layout.renamed), labels, want.derive,
                                                      rule=rule, positive=want.positive, blank=want.layout.blank)  # fmt: skip
    joined, notes = _joined(made, wanted, roles, want), [*taken, *roles.notes, *notes, *found]
    return GradedCases(joined, target, "", tuple(notes), identifiers=_answer(made, want.layout), rule=rule, questions=answers)  # fmt: skip


def _answer(made: pd.DataFrame, layout: Layout) -> str:
    """What patients are who differ in writing only; where none are named, cases are, and these are as written."""
    return "as-written" if (made["patient"] == made["case"]).all() else layout.identifiers


def _joined(made: pd.DataFrame, wanted: pd.DataFrame, roles: Roles, want: Wanted) -> pd.DataFrame:
    """With every other column; one that a role has taken is carried too if it is a subgroup of another name."""
    used, taken = {*made.columns, *wanted.columns}, roles.taken.keys() - set(want.subgroups)
    extra = {c: typed(roles.table.loc[made.index, c]) for c in roles.columns if c not in used | taken}
    if want.pixel_size:
        extra["pixel_size"] = microns(want.pixel_size, roles.table.loc[made.index])
    return pd.concat([made, wanted, pd.DataFrame(extra, index=made.index)], axis=1)


def _taken(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    if not where:
        return table, []
    rows = matching(table.apply(typed), where)
    if not rows.any():
        todo = "see `overread scan` or the table for what is there"
        raise InputError("no row fulfils the query", given=where, todo=todo)
    return table[rows], [f"where {where}: {int(rows.sum()):,} of {count(len(table), 'row')}"]


def _columns(roles: Roles, named: dict[str, str | None], root: Path, layout: Layout) -> dict[str, str | None]:
    """The column of each role; roles that were named go first, so that no guess takes their column."""
    columns: dict[str, str | None] = dict.fromkeys(ROLES)
    for role in sorted(named, key=lambda role: named[role] is None):
        fits = {"split": is_split, "case": lambda column: column.is_unique}.get(role)
        columns[role] = roles.take(role, named[role], fits)
    if columns["image"] is None:
        columns["image"] = named_like_files(roles, root, layout)
    if columns["image"] is None:
        raise InputError("no column names the images", given=f"columns {', '.join(roles.columns[:30])}",
                         todo=f"name it with --image; {nearest('image', roles.columns)}")  # fmt: skip
    if layout.patient_from and named["patient"] is None and columns["patient"] is not None:
        roles.notes = [note for note in roles.notes if not note.startswith("patient: guessed")]
        columns["patient"] = None
    return columns


def _label_columns(roles: Roles, want: Wanted) -> list[str]:
    """The columns that say what is to be learned; none where the images' paths do."""
    labels, task, layout = want.labels, want.task, want.layout
    if layout.one_hot:
        columns = [find(roles.columns, name, "one-hot") for name in layout.one_hot]
    elif labels is want.label is want.value is None and (layout.label_from or want.derive):
        return []
    else:
        if labels is want.label is want.value is None and (task is None or task.multilabel):
            labels = [c for c in roles.columns if c.startswith("label:")] or None
        if labels is not None:
            require(len(labels) > 0, "labels needs at least one column")
            columns = [find(roles.columns, name, "labels") for name in labels]
        else:
            column = roles.take("value", want.value) if want.value else roles.take("label", want.label)
            if column is None:
                free = [c for c in roles.columns if c not in roles.taken]
                todo = ways_to_label(roles.table, free) or "name it with --label, several findings with --labels, a quantity with --value"  # fmt: skip
                raise InputError("no column says what is to be learned", given=f"columns {', '.join(roles.columns[:30])}", todo=todo)  # fmt: skip
            return [column]
    roles.taken.update(dict.fromkeys(columns, "label"))
    return columns


def _one_row_each(
    roles: Roles, columns: dict[str, str | None], labels: list[str], want: Wanted
) -> tuple[pd.DataFrame, pd.Series | None]:
    """One row an image where several say the same of it (a row for each box); where they differ in the label, the lists
    of what they say, if that was asked for."""
    table, image = roles.table, columns["image"]
    labels = [*labels, *(c for c in columns_used(want.derive, roles.columns) if c not in labels)]
    twice = table[image].duplicated(keep=False) & (table[image] != "")
    if not twice.any():
        return table, None
    point = [column for column in want.point if column in table.columns]
    if point and columns["case"] is None and table[twice].groupby(image)[point].nunique().gt(1).any(axis=None):
        raise InputError("volumes stand on several rows with different points", given=f"{count(table[image][twice].nunique(), 'volume')}, first {numbered(twice)}",
                         todo="if each row is a finding of its own, name the column that tells them apart with --case")  # fmt: skip
    asked = [column for column in columns.values() if column]
    alike = table.duplicated(list(dict.fromkeys([*asked, *labels])))
    others = [c for c in roles.columns if c not in {*asked, *labels} and table[c].groupby(table[image]).nunique().max() > 1]  # fmt: skip
    if alike.any():
        differ = f" (they differ in {', '.join(others[:6])})" if others else ""
        roles.notes.append(
            f"table: {int(alike.sum()):,} rows say again what another says of the same image{differ}; one row an image is kept"
        )
    table = table[~alike]
    rest = table[image].duplicated(keep=False) & (table[image] != "")
    rest &= table.duplicated(list(dict.fromkeys(asked)), keep=False)  # not views or dates of one file
    if not rest.any() or len(labels) != 1 or want.value is not None:
        return table, None
    if want.layout.repeated != "findings":
        readers = "; several readers' answers are read with --graders" if guess("reader", roles.columns) else ""
        raise InputError("an image stands on several rows with different labels", given=f"{table[image][rest].nunique():,} images, first {numbered(rest)}",
                         todo="correct the table, or say --repeated findings if each row names something that was found (all of "
                              f"them are then present){readers}")  # fmt: skip
    groups = known(table[labels[0]]).groupby(table[image])
    lists = {name: tuple(dict.fromkeys(cell for cell in cells if cell)) for name, cells in groups}
    first = table[~table[image].duplicated() | (table[image] == "")]
    roles.notes.append(
        f"table: {len(table) - len(first):,} rows add a label to an image that has one; all are findings of it"
    )
    return first, first[image].map(lambda name: lists.get(name) or None)


def _target(
    roles: Roles, labels: list[str], lists: pd.Series | None, want: Wanted
) -> tuple[pd.DataFrame, Target, list[str]]:
    table, layout, task = roles.table, want.layout, want.task
    if lists is not None:
        return listed_findings(lists, want.positive, layout.blank)
    if layout.one_hot:
        values, notes = from_one_hot(table, labels)
        made, target, more = one_label(values, want.positive, task, "one-hot", labels)
        return made, target, notes + more
    if want.derive:
        return derived_findings(table, labels, want.derive, want.positive, layout.blank)
    if not labels:
        image = next(column for column, role in roles.taken.items() if role == "image")
        values, notes = by_pattern(table[image], layout.label_from, "label")
        made, target, more = one_label(values, want.positive, task, "label_from", rename=layout.renamed)
        return made, target, notes + more
    if want.labels is not None or (want.label is want.value is None and labels[0].startswith("label:")):
        return several_findings(table, labels, want.positive, layout.blank)
    if want.value is not None or (task and task.continuous):
        return quantity(table[labels[0]], labels[0])
    if (task is None or task.multilabel) and (
        listed := findings_in(table[labels[0]], labels[0], layout.list_separator)
    ):
        made, target, notes = listed_findings(listed[0], want.positive, layout.blank)
        return made, target, listed[1] + notes
    return one_label(table[labels[0]], want.positive, task, labels[0], rename=layout.renamed)


def _identify(
    table: pd.DataFrame, root: Path, roles: Roles, columns: dict[str, str | None], layout: Layout
) -> tuple[pd.DataFrame, list[str]]:
    """The columns of the roles, without masks, and where the images were found.

    ``case`` and ``patient`` are filled where the table does not say them, names that contradict each other refused.
    """
    made = pd.DataFrame({role: table[name] if name else "" for role, name in columns.items()}, index=table.index)
    written = made["image"]
    made["image"], found = locate(made["image"], root, layout)
    if layout.masks == "set-aside":
        masks, more = masks_among(made["image"].tolist(), root)
        made, found = made[~made["image"].isin(masks)].copy(), [*found, *more]
    if layout.split_from:
        made["split"], more = given_parts(written[made.index], root, layout.split_from)
        found = [*found, *more]
    case = identifiers(made["case"]) if columns["case"] else stems(made["image"])
    roles.notes += [rewritten(made["case"], case, "case")] if columns["case"] else []
    made["case"] = case.where(case != "", made["image"])
    if columns["patient"] is None:
        here = written[made.index]
        by_path = by_pattern(here, layout.patient_from, "patient") if layout.patient_from else patient_folders(here)
        made["patient"], more = by_path or (
            made["patient"],
            [NO_PATIENT + "; name the column with --patient" + offered_patient(written)],
        )
        roles.notes += more
    same = columns["patient"] is not None and columns["patient"] in (columns["case"], columns["image"])
    patient = distinct(made["patient"], "patient", "as-written" if same else layout.identifiers)
    roles.notes = [note for note in (*roles.notes, rewritten(made["patient"], patient, "patient")) if note]
    blank = int((patient == "").sum())
    named = columns["patient"] is not None or blank < len(made)
    if blank and named:
        roles.notes.append(f"patient: {count(blank, 'image')} without one, each a patient of its own")
    made["patient"] = patient.where(patient != "", "case " + made["case"] if named else made["case"])
    made["split"] = parts(made["split"])
    refuse_twice(made)
    return made, found


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
        labels, more = open_table(Path(labels_from), want.layout)
        table, joined = join_labels(found.table, labels, key)
        notes += more + joined
    if not any(name in want.where for name in DECIDING):
        kept, more = preferred_renderings(table)
        table, notes = table[kept].reset_index(drop=True), [*notes, *more]
    if labels_from is None and want.label is want.labels is want.value is want.graders is None:
        folders, more = arrange(table["image"].tolist(), want.layout)
        table = table.reset_index(drop=True).loc[folders.index]
        if (table["patient"] != "").any():  # a patient's folder counts where no header says who the patient is
            folders, more = folders.drop(columns="patient"), [note for note in more if not note.startswith("patient")]
        table = table.assign(**{str(column): folders[column] for column in folders.columns[1:]}).reset_index(drop=True)
        roles, want = (
            roles | {"split": "split"},
            replace(want, label="label", layout=replace(want.layout, label_from="")),
        )
        notes += more
    if want.layout.patient_from:
        del roles["patient"]
    given = {role: column for role, column in named.items() if column is not None}
    read = _from_table(table.astype(str), Path(found.root), {**named, **roles, **given}, want)
    return replace(read, notes=(*notes, *read.notes))


def _refuse_columns(named: dict[str, str | None], what: str) -> None:
    if given := ", ".join(f"--{role}" for role, column in named.items() if column is not None):
        raise InputError(f"{what} has no columns to choose from", given=given, todo="leave these out")


def _from_folder(folder: Path, positive: Sequence[str], named: dict[str, str | None], layout: Layout) -> Cases:
    _refuse_columns(named, "a folder of class folders")
    table, notes = read_folder(folder, layout)
    made = table.assign(case=stems(table["image"]), source="", view="", time="")
    if layout.split_from:
        made["split"], more = given_parts(made["image"], folder, layout.split_from)
        notes += more
    blank = int((made["patient"] == "").sum())
    if blank == len(made):
        notes.append(NO_PATIENT + offered_patient(made["image"]))
    elif blank:
        notes.append(f"patient: {blank:,} images without one count as patients of their own")
    alone = made["case"] if blank == len(made) else "case " + made["case"]
    made["patient"] = made["patient"].where(made["patient"] != "", alone)
    wanted, target, more = one_label(made.pop("label"), positive, None, "label", rename=layout.renamed)
    refuse_twice(made)
    return Cases(pd.concat([made, wanted], axis=1), target, str(folder), (*notes, *more))


# -- new images for a model that exists: the labels may be missing, the target is the model's ---------------------


@checked
def read_images(
    path: str | os.PathLike[str], target: Target, *, image: str | None = None, label: str | None = None,
    patient: str | None = None, case: str | None = None, source: str | None = None, names: str = "hash", salt: str = "",
    planes: Planes = WHOLE, progress: Progress = silent, layout: Layout = PLAIN, keep: Sequence[str] = (),
    view: str | None = None, time: str | None = None, learned: Callable[[Cases], Cases] | None = None, mask: str | None = None,
    pixel_size: str = "", outlines: str | None = None,
) -> Cases:  # fmt: skip
    """One image, a folder of images, an export of DICOM files, or a table of images, as cases of ``target``.

    ``label`` names a column of classes where they are known, so that the predictions can be judged. ``names``,
    ``salt``, ``keep``, ``planes`` and ``layout`` as in :func:`read_cases`; with the salt of a model its patients are
    known again. ``mask``: where outlines are learned, the masks (see :func:`.find_masks`), so that they can be judged. ``pixel_size`` and ``outlines``: of slides, as in :func:`read_cases`. ``learned`` puts labels under the classes that the model learned, where it did not learn the labels.
    Raises :class:`InputError` for what is missing, for no image at all, and for labels that the model does not know.
    """
    path = Path(os.path.abspath(path))
    named = {"image": image, "patient": patient, "case": case, "source": source, "view": view, "time": time}
    slides = "yes" if planes.slides else "no"
    if label is not None:
        kind: Kind | None = "classes" if target.task.exclusive else None  # the model says which class is the disease
        read = read_cases(path, image=image, label=label, patient=patient, case=case, source=source, view=view, time=time, names=names, salt=salt,
                          planes=planes, progress=progress, kind=kind, layout=layout, keep=keep, slides=slides, outlines=outlines, pixel_size=pixel_size)  # fmt: skip
        return _labelled(learned(read) if learned else read, target)
    require(mask is None or target.task.dense, "masks are for a model that outlines objects", given=target.task.summary, todo="leave the mask out")  # fmt: skip
    if mask is not None:
        read = read_cases(path, image=image, mask=mask, patient=patient, case=case, source=source, view=view, time=time, names=names, salt=salt,
                          planes=planes, progress=progress, layout=layout, keep=keep)  # fmt: skip
        return _labelled(read, target)
    read = _unlabelled(path, named, target, progress, layout)
    _ = [find(list(read.table.columns), name) for name in keep]
    if planes.slides and pixel_size:
        read = replace(read, table=read.table.assign(pixel_size=microns(pixel_size, read.table)))
    read = slides_among(read, slides, outlines, planes, bool(pixel_size))
    settled = dicom_export.settled_columns(path)
    return arranged(read.hidden(names=names, salt=salt, keep=(*planes.point, *keep), known=settled), planes)


def _unlabelled(path: Path, named: dict[str, str | None], target: Target, progress: Progress, layout: Layout) -> Cases:
    if dicom_export.is_tree(path):
        found = dicom_export.read_tree(path, progress=progress)
        kept, notes = preferred_renderings(found.table)
        table = found.table[kept].reset_index(drop=True).astype(str)
        given = {role: column for role, column in named.items() if column is not None}
        new = _new_from_table(table, {**dict.fromkeys(named), **_OF_EXPORTS, **given}, target, Path(found.root), layout)
        return replace(new, notes=(*new.notes, *notes))
    if path.is_dir():
        images, notes = images_below(path, layout)
        return replace(_bare(pd.DataFrame({"image": images}), target, path), notes=tuple(notes))
    if path.name.lower().endswith(ENDINGS):
        return _bare(pd.DataFrame({"image": [path.name] if path.exists() else []}), target, path.parent)
    table, notes = open_table(path, layout)
    read = _new_from_table(table, named, target, path.parent, layout)
    return replace(read, notes=(*notes, *read.notes))


def _new_from_table(
    table: pd.DataFrame, named: dict[str, str | None], target: Target, root: Path, layout: Layout
) -> Cases:
    roles = Roles(table)
    columns = _columns(roles, named, root, layout)
    table, _ = _one_row_each(roles, columns, [], Wanted(layout=layout))
    made, found = _identify(table, root, roles, columns, layout)
    blank = pd.DataFrame(dict.fromkeys(target.columns, target.task.unknown), index=made.index)
    return Cases(_joined(made, blank, roles, Wanted()), target, str(root), (*roles.notes, *found),
                 identifiers=_answer(made, layout))  # fmt: skip


def _labelled(cases: Cases, target: Target) -> Cases:
    if strange := [name for name in cases.target.names if name not in target.names]:
        raise InputError("the table has classes that the model does not know", given=", ".join(strange[:10]),
                         todo=meant(strange, target.names))  # fmt: skip
    return replace(cases, target=target)


def _bare(table: pd.DataFrame, target: Target, root: Path) -> Cases:
    if table.empty:
        raise InputError("there are no images", given=str(root), todo=f"images end in {', '.join(ENDINGS)}")
    blank = dict.fromkeys(ROLES, "") | dict.fromkeys(target.columns, target.task.unknown)
    made = pd.DataFrame(blank, index=table.index).assign(**dict.fromkeys(("image", "case", "patient"), table["image"]))
    return Cases(made, target, str(root))
