"""New images for a model that exists: the labels may be missing, the target is the model's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases import sources, tree
from overread.cases.cases import ROLES, WHOLE, Cases, Planes, Target
from overread.cases.columns import Roles
from overread.cases.cut import cut
from overread.cases.folders import ENDINGS
from overread.cases.located import locate
from overread.cases.private import hide
from overread.cases.tables import read_table
from overread.errors import InputError, checked, nearest
from overread.progress import Progress, silent

_UNKNOWN: dict[str, Any] = {"binary": "", "classes": "", "findings": np.nan, "quantity": np.nan}


@checked
def read_images(
    path: str | os.PathLike[str],
    target: Target,
    *,
    image: str | None = None,
    label: str | None = None,
    patient: str | None = None,
    case: str | None = None,
    source: str | None = None,
    names: str = "hash",
    salt: str = "",
    planes: Planes = WHOLE,
    progress: Progress = silent,
) -> Cases:
    """One image, a folder of images, an export of DICOM files, or a table of images, as cases of ``target``.

    ``label`` names a column of classes where they are known, so that the predictions can be judged. ``names``,
    ``salt`` and ``planes`` as in :func:`read_cases`; with the salt of a model its patients are known again. Raises :class:`InputError` for what is missing, for no image at all, and for labels that the model does not know.
    """
    path = Path(os.path.abspath(path))
    named = {"image": image, "patient": patient, "case": case, "source": source}
    if label is not None:
        read = sources.read_cases(path, image=image, label=label, patient=patient, case=case, source=source, names=names, salt=salt,
                                  planes=planes, progress=progress)  # fmt: skip
        return _labelled(read, target)
    read = _unlabelled(path, named, target, progress)
    return cut(hide(read, names=names, salt=salt, keep=planes.point), planes)


def _unlabelled(path: Path, named: dict[str, str | None], target: Target, progress: Progress) -> Cases:
    if tree.is_tree(path):
        found = tree.read_tree(path, progress=progress)
        return _from_table(found.table.astype(str), named, target, Path(found.root))
    if path.is_dir():
        images = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.name.lower().endswith(ENDINGS))
        return _bare(pd.DataFrame({"image": images}), target, path)
    if path.name.lower().endswith(ENDINGS):
        return _bare(pd.DataFrame({"image": [path.name] if path.exists() else []}), target, path.parent)
    return _from_table(read_table(path), named, target, path.parent)


def _from_table(table: pd.DataFrame, named: dict[str, str | None], target: Target, root: Path) -> Cases:
    roles = Roles(table)
    columns = sources._columns(roles, named)
    made = sources._roles(table, columns)
    made["image"], found = locate(made["image"], root)
    made = sources._identify(made, columns, roles)
    blank = pd.DataFrame(dict.fromkeys(target.columns, _UNKNOWN[target.kind]), index=table.index)
    extra = sources._extras(table, roles, {*made.columns, *target.columns}, ())
    return Cases(pd.concat([made, blank, extra], axis=1), target, str(root), (*roles.notes, *found))


def _labelled(cases: Cases, target: Target) -> Cases:
    strange = [name for name in cases.target.names if name not in target.names]
    if strange:
        raise InputError("the table has classes that the model does not know", given=", ".join(strange[:10]),
                         todo=nearest(strange[0], target.names))  # fmt: skip
    return replace(cases, target=target)


def _bare(table: pd.DataFrame, target: Target, root: Path) -> Cases:
    if table.empty:
        raise InputError("there are no images", given=str(root), todo=f"images end in {', '.join(ENDINGS)}")
    made = table.assign(case=table["image"], patient=table["image"])
    for column in (*ROLES, *target.columns):
        if column not in made:
            made[column] = _UNKNOWN[target.kind] if column in target.columns else ""
    return Cases(made, target, str(root))
