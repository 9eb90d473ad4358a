"""Is the table sound? Everything that makes a result too good, found before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.described_rows import Severity
from overread.cases.audit.fingerprints import BLANK, components, exact, group, longest, similar, take_fingerprints
from overread.cases.audit.mask_checks import Masks, check_masks, describe_masks, objects_by_source, unusable
from overread.cases.audit.shortcut import shortcut, verdict_of
from overread.cases.audit.slide_checks import SlideRows, check_slides, describe_slides, slides_in_short, unusable_slides
from overread.cases.cases import PARTS, Cases
from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.files import FORMAT, build, fingerprint, read_json, write_json
from overread.core.phrases import count as counted
from overread.core.progress import Progress, silent
from overread.images.image import BEYOND, DOUBT

_WORST_FIRST = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding(Shown):
    """One thing the audit found: what, how bad, in how many cases, and what to do. ``cases``: the first 1,000 names."""

    kind: str
    severity: Severity
    message: str
    advice: str = ""
    count: int = 0
    cases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}. {self.advice}".rstrip()


@dataclass(frozen=True, eq=False)
class Audit(Shown):
    """What was found, worst first; ``counts`` and ``shortcut`` as in ``audit.json``.

    ``pairs``: (case, case, "exact" or "near"); ``excluded``: (case, reason) of cases that cannot be used.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    shortcut: dict[str, Any] = field(default_factory=dict)
    pairs: tuple[tuple[str, str, Literal["exact", "near"]], ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()

    def of(self, kind: str) -> Finding | None:
        """The first finding of a kind, or None."""
        return next(iter(self.all(kind)), None)

    def all(self, kind: str) -> tuple[Finding, ...]:
        """Every finding of a kind: there can be a leak of images and one of patients."""
        return tuple(f for f in self.findings if f.kind == kind)

    def to_frame(self) -> pd.DataFrame:
        """A row a finding, worst first: ``kind``, ``severity``, ``count``, ``message``, ``advice``."""
        columns = ("kind", "severity", "count", "message", "advice")
        return pd.DataFrame([{c: getattr(f, c) for c in columns} for f in self.findings], columns=list(columns))

    def overview(self) -> Overview:
        """The findings, worst first, and what to do."""
        rows = tuple((f.severity, f.kind, f.message, f.advice) for f in self.findings)
        return Overview(
            str(self).splitlines()[0],
            (Panel(("severity", "kind", "what was found", "what to do"), rows, of=len(rows)),),
        )

    def asked(self) -> tuple[Panel, ...]:
        """The kinds of findings that are there."""
        kinds = dict.fromkeys(f.kind for f in self.findings)
        return (
            Panel(
                ("ask", "finds"),
                tuple((f'.all("{kind}")', f"{len(self.all(kind))} of this kind") for kind in kinds),
                "Findings",
            ),
        )

    def require_none(self, *kinds: str) -> None:
        """Raise :class:`UnsoundError` if there is a finding of one of these kinds."""
        found = [f for kind in kinds for f in self.all(kind)]
        if found:
            raise UnsoundError("; ".join(f.message for f in found), todo=found[0].advice)

    def __str__(self) -> str:
        head = (
            f"{counted(self.counts.get('images', 0), 'image')} of {counted(self.counts.get('patients', 0), 'patient')}"
        )
        return "\n  ".join([head, *map(str, self.findings)]) if self.findings else f"{head}, nothing to report"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Audit) and fingerprint(self) == fingerprint(other)

    def __hash__(self) -> int:
        return int(fingerprint(self), 16)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        fields = {name: getattr(self, name) for name in ("findings", "counts", "shortcut", "pairs", "excluded")}
        return write_json(path, {"format": FORMAT, **fields})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Audit:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing, damaged or of a later version."""
        value = read_json(path)
        if not isinstance(value, dict) or value.pop("format", 0) != FORMAT:
            raise InputError("the audit is of another version", given=str(path), todo="run the audit again")
        return build(cls, value, where=Path(path).name)


@checked
def audit(
    cases: Cases, *, fingerprints: pd.DataFrame | None = None, threads: int = 0, progress: Progress = silent,
    cache: str | os.PathLike[str] | None = None, seed: int = 0, merged: bool = False,
) -> Audit:  # fmt: skip
    """Look at every image and every row once and say what is wrong, how bad it is, and what to do.

    Reads all images (or takes ``fingerprints`` made before), masks where there are any, and of slides tissue, stain and outlines; ``cache`` is a folder that
    makes a second audit quick.
    ``merged``: labels are merged into training classes later, so that one of fewer than three patients is no error.
    Raises :class:`InputError` if no image at all can be read.
    """
    if fingerprints is None:
        fingerprints = take_fingerprints(cases, threads=threads, progress=progress, cache=cache)
    prints, given = fingerprints.reset_index(drop=True), f"{len(fingerprints):,} for {len(cases):,} images"
    require(len(prints) == len(cases), "the fingerprints belong to other cases", given=given)
    refuse_unreadable(prints)
    progress("looking for duplicates", 0, 1)
    seen = Seen(cases, prints, exact(prints), similar(prints, threads=threads), merged)
    progress("looking for duplicates", 1, 1)
    shortcuts = shortcut(cases, prints, seed=seed)
    findings = [finding for check in CHECKS for finding in check(seen)] + shortcut_risk(shortcuts)
    left_out, counts = excluded(seen), {}
    if cases.masks:
        masks = Masks(
            cases,
            describe_masks(cases, (prints["error"] == "").to_numpy(), threads=threads, progress=progress, cache=cache),
            seen.exact,
        )
        findings += [found for one in check_masks(masks) for found in _finding(seen, *one)]
        counts["objects"] = objects_by_source(masks)
        left_out = tuple(sorted((unusable(masks) | dict(left_out)).items())) if cases.target.task.dense else left_out
    if cases.slides:
        slides = SlideRows(
            cases,
            describe_slides(cases, (prints["error"] == "").to_numpy(), threads=threads, progress=progress, cache=cache),
        )
        findings += [found for one in check_slides(slides) for found in _finding(seen, *one)]
        counts["slides"] = slides_in_short(slides)
        left_out = tuple(sorted((unusable_slides(slides) | dict(left_out)).items()))
    findings.sort(key=lambda finding: _WORST_FIRST[finding.severity])
    return Audit(tuple(findings), count(cases, prints, len(left_out)) | counts, shortcuts, pairs(seen), left_out)


# -- the checks of the audit, one function each: from what was seen to findings -----------------------------------


_SHOWN = 1_000
#: Patients per class: below the first too few, below the second some signal (Stanford, medical imaging courses).
TOO_FEW, SOME_SIGNAL = 36, 300
#: Below so many patients with so many images each, the column of the patients is likely one of groups.
FEWEST_PATIENTS, IMAGES_EACH = 10, 10


@dataclass(frozen=True, eq=False)
class Seen:
    """Cases, their fingerprints row by row, and the pairs of equal and of near-equal images as positions."""

    cases: Cases
    prints: pd.DataFrame
    exact: NDArray[np.int64]
    near: NDArray[np.int64]
    merged: bool = False

    @property
    def names(self) -> NDArray:
        """Case of each row."""
        return self.cases.table["case"].to_numpy(object)

    @property
    def patients(self) -> NDArray:
        """Patient of each row."""
        return self.cases.table["patient"].to_numpy(object)

    @property
    def parts(self) -> NDArray:
        """Given part of each row, blank where there is none."""
        given = self.cases.table["split"]
        return given.where(given.isin(PARTS), "").to_numpy(object)


def _finding(seen: Seen, kind: str, severity: Severity, message: str, advice: str, rows: Iterable[int] | NDArray[Any],
             count: int | None = None) -> list[Finding]:  # fmt: skip
    """The finding about these rows, counted by their cases where no ``count`` is given; none where that is 0."""
    names = list(dict.fromkeys(seen.names[np.asarray(list(rows), np.int64)]))
    count = len(names) if count is None else count
    return [Finding(kind, severity, message, advice, count, tuple(names[:_SHOWN]))] if count else []


# -- what cannot be used -----------------------------------------------------------------------------------------


@checked
def refuse_unreadable(prints: pd.DataFrame) -> None:
    """Raise :class:`InputError` if not one image can be read."""
    if len(prints) and (prints["error"] != "").all():
        raise InputError(f"none of the {len(prints):,} images can be read",
                         todo=f"the first: {prints['error'].iloc[0].rstrip('.')}. Check the folder and the column of the images")  # fmt: skip


def unreadable(seen: Seen) -> list[Finding]:
    errors = seen.prints["error"][seen.prints["error"] != ""]
    severity: Severity = "error" if len(errors) * 20 > len(seen.prints) else "warning"
    return _finding(seen, "unreadable", severity, f"{counted(len(errors), 'image')} cannot be read and {'is' if len(errors) == 1 else 'are'} set aside, first: {next(iter(errors), '').rstrip('.')}",
                    "Restore these files, or remove their rows.", errors.index)  # fmt: skip


def missing_label(seen: Seen) -> list[Finding]:
    rows = np.flatnonzero(~seen.cases.labelled)
    what, more = ("mask", "masks") if seen.cases.target.task.dense else ("label", "labels")
    return _finding(seen, f"missing-{what}", "warning", f"{counted(len(rows), 'image')} without a {what} {'is' if len(rows) == 1 else 'are'} set aside",
                    f"Add the {more}, or remove these rows.", rows)  # fmt: skip


def excluded(seen: Seen) -> tuple[tuple[str, str], ...]:
    """(case, reason) of every case that cannot be used, once each."""
    errors = seen.prints["error"].to_numpy(object)
    found = {seen.names[i]: f"unreadable: {errors[i]}" for i in np.flatnonzero(errors != "")}
    for i in np.flatnonzero(~seen.cases.labelled):
        found.setdefault(seen.names[i], "no mask" if seen.cases.target.task.dense else "no label")
    return tuple(sorted(found.items()))


def blank(seen: Seen) -> list[Finding]:
    rows = np.flatnonzero((seen.prints["error"] == "") & (seen.prints["std"] <= BLANK))
    return _finding(seen, "blank", "warning", f"{counted(len(rows), 'image is', 'images are')} blank or nearly constant",
                    "Look at them; remove those that show nothing.", rows)  # fmt: skip


# -- duplicates --------------------------------------------------------------------------------------------------


def pairs(seen: Seen) -> tuple[tuple[str, str, Literal["exact", "near"]], ...]:
    """Pairs of cases that are the same image, or nearly; each once, in the order of their names."""
    found: dict[tuple[str, str], Literal["exact", "near"]] = {}
    for positions, kind in ((seen.near, "near"), (seen.exact, "exact")):
        for a, b in seen.names[positions]:
            if a != b:
                found[min(a, b), max(a, b)] = kind  # type: ignore[assignment]
    return tuple((a, b, kind) for (a, b), kind in sorted(found.items()))


def _sets(seen: Seen, links: NDArray[np.int64]) -> pd.DataFrame:
    """Rows that ``links`` tie together: ``row``, ``set``, ``part``, ``patient``."""
    rows = np.unique(links)
    which = components(len(seen.prints), links)[rows]
    return pd.DataFrame({"row": rows, "set": which, "part": seen.parts[rows], "patient": seen.patients[rows]})


def exact_duplicates(seen: Seen) -> list[Finding]:
    sets = _sets(seen, seen.exact)
    distinct = sets["set"].nunique()
    copies = len(sets) - distinct
    across = int((sets.groupby("set")["patient"].nunique() > 1).sum())
    more = f", {across:,} of them under different patients" if across else ""
    return _finding(seen, "exact-duplicate", "warning" if across else "note",
                    f"{counted(distinct, 'image stands', 'images stand')} more than once, pixel for pixel ({counted(copies, 'copy', 'copies')}){more}",
                    "Splits keep copies together; remove them if they are no true repetitions.", sets["row"], copies)  # fmt: skip


def near_duplicates(seen: Seen) -> list[Finding]:
    across = int((seen.patients[seen.near[:, 0]] != seen.patients[seen.near[:, 1]]).sum())
    more = f", {across:,} of them of different patients" if across else ""
    return _finding(seen, "near-duplicate", "warning" if across else "note",
                    f"{counted(len(seen.near), 'pair')} of images alike but for compression, brightness, size or a small shift{more}",
                    "Splits keep them together; look whether the patients are truly different.", np.unique(seen.near), len(seen.near))  # fmt: skip


def chains(seen: Seen) -> list[Finding]:
    """Near-duplicates that would tie so many patients together that splits do not keep them."""
    loosened = group(seen.cases.table, "patient", pairs(seen)).loosened
    return _finding(seen, "near-chain", "warning", f"{counted(loosened, 'pair')} of near-duplicates form chains that tie more than {longest(seen.cases.patients):,} patients together",
                    "Such images are alike rather than the same, and splits do not keep them together: look at a few pairs, and remove copies.", seen.near.ravel(), loosened)  # fmt: skip


def conflicting_labels(seen: Seen) -> list[Finding]:
    if seen.cases.target.task.dense:  # two addresses may hold one mask: what they hold is compared elsewhere
        return []
    sets = _sets(seen, seen.exact)
    labels = seen.cases.table.loc[sets["row"], list(seen.cases.target.columns)].reset_index(drop=True)
    labels = labels.mask(labels == "")
    torn = (labels.groupby(sets["set"]).nunique() > 1).any(axis=1)
    count, rows = int(torn.sum()), sets["row"][sets["set"].isin(torn.index[torn])]
    return _finding(seen, "conflicting-label", "warning", f"{counted(count, 'image stands', 'images stand')} under two different labels",
                    "Find out which label is right, or remove both rows.", rows, count)  # fmt: skip


# -- a split that came with the data ---------------------------------------------------------------------------


def leaks(seen: Seen) -> list[Finding]:
    """Images, then patients, that stand in more than one part of the given split."""
    sets, rows = _sets(seen, seen.exact), np.flatnonzero(seen.parts != "")
    everyone = pd.DataFrame({"row": rows, "part": seen.parts[rows], "patient": seen.patients[rows]})
    images = _leak(seen, sets[sets["part"] != ""], "set", "distinct image", ", pixel for pixel")
    return images + _leak(seen, everyone, "patient", "patient", "")


def near_leaks(seen: Seen) -> list[Finding]:
    """Near-duplicates of different parts of the given split."""
    parts = seen.parts[seen.near]
    torn = seen.near[(parts[:, 0] != parts[:, 1]) & (parts != "").all(1)]
    return _finding(seen, "near-leak", "error", f"{counted(len(torn), 'pair')} of near-duplicates {'stands' if len(torn) == 1 else 'stand'} on both sides of the given split",
                    "Drop the copies from train and tuning.", torn.ravel(), len(torn))  # fmt: skip


def _leak(seen: Seen, table: pd.DataFrame, key: str, what: str, how: str) -> list[Finding]:
    shared = table[table.groupby(key)["part"].transform("nunique") > 1]
    where = shared.groupby(key)["part"].agg(set)
    shared_by = [(a, b, int(sum({a, b} <= s for s in where))) for a, b in combinations(PARTS, 2)]
    listed = "; ".join(f"{n:,} in both {a} and {b}" for a, b, n in shared_by if n)
    return _finding(seen, "leak", "error", f"the given split leaks: {counted(len(where), f'{what} stands', f'{what}s stand')} in more than one part{how} ({listed})",
                    "Results on it are too good; drop them from train and tuning, or make a new split.", shared["row"], len(where))  # fmt: skip


# -- who is there ------------------------------------------------------------------------------------------------


def patients(seen: Seen) -> list[Finding]:
    table = seen.cases.table
    if seen.cases.patients == 1 and len(table) > 1:
        return [Finding("few-patients", "error", "all images belong to one patient",
                        "Check the patient column: without a second patient nothing can be tested.", 1)]  # fmt: skip
    if seen.cases.patients < FEWEST_PATIENTS and len(table) >= IMAGES_EACH * seen.cases.patients:
        return [Finding("few-patients", "error", f"all {len(table):,} images belong to {seen.cases.patients} patients, too few to learn from and to judge by",
                        "See that --patient names the column of the patient, and not one of groups, such as sex.", seen.cases.patients)]  # fmt: skip
    if len(table) > 1 and (table["patient"] == table["case"]).all():
        return [Finding("no-patient", "warning", f"no column says which images belong to one patient, so each {'case' if table['case'].duplicated().any() else 'image'} counts as a patient of its own",
                        "Name the patient column if there is one: images of a patient on both sides of a split make results too good.", len(table))]  # fmt: skip
    return []


def classes(seen: Seen) -> list[Finding]:
    """One class only, classes with few patients, and classes far apart in number."""
    task, labels = seen.cases.target.task, seen.cases.labels
    if task.distinct(labels) < 2:
        return [Finding("one-class", "error", f"all {int(seen.cases.labelled.sum()):,} labelled images have the same label",
                        "There is nothing to learn: add cases of another class.", 1)]  # fmt: skip
    if task.dense:
        return []
    has = task.known(labels)[:, None] if task.continuous else task.presence(labels)
    counts = {name: len(set(seen.patients[has[:, i]])) for i, name in enumerate(task.names)}
    return [*_few(counts, seen.merged), *_apart(counts)]


#: From how many patients to fewer than how many, how bad that is, what is said before the classes and after, and
#: advice.
_AMOUNTS: tuple[tuple[int, int, Severity, str, str, str], ...] = (
    (0, 3, "error", "fewer than 3 patients with", ": train, tuning and test cannot each have one",
     "Collect more, merge the class with another, or leave it out."),
    (3, TOO_FEW, "warning", "too few patients to learn from with", "",
     "Low dozens are too few; high dozens to low hundreds give some signal; high hundreds to thousands are good."),
    (TOO_FEW, SOME_SIGNAL, "note", "enough patients for some signal, not for a good result, with", "",
     "High hundreds to thousands of patients per class are good."),
)  # fmt: skip


def _few(counts: dict[str, int], merged: bool) -> list[Finding]:
    found = []
    for least, below, severity, before, after, advice in _AMOUNTS:
        if merged and severity == "error":
            severity, after, advice = "warning", "", "See into which training classes they are merged."
        listed = [f"{name} ({count})" for name, count in counts.items() if least <= count < below]
        if listed:
            shown = ", ".join(listed[:8]) + (" …" if len(listed) > 8 else "")
            found.append(Finding("few-patients", severity, f"{before} {shown}{after}", advice, len(listed)))
    return found


def _apart(counts: dict[str, int]) -> list[Finding]:
    low, high = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    if counts[low] == 0 or counts[high] < 10 * counts[low]:
        return []
    return [Finding("imbalance", "note", f"{high} has {counts[high] / counts[low]:.0f} times as many patients as {low}",
                    "Accuracy says little here; read sensitivity, balanced accuracy and AUC. Training weighs the classes.", len(counts))]  # fmt: skip


def sources(seen: Seen) -> list[Finding]:
    """Sources that hold one class only: there the source is the label."""
    if not seen.cases.target.task.exclusive:
        return []
    table = seen.cases.table[seen.cases.labelled & (seen.cases.table["source"] != "").to_numpy()]
    one = table.groupby("source")["label"].nunique() == 1
    alone = one.index[one & (one.size > 1)]
    rows = np.flatnonzero(seen.cases.table["source"].isin(alone))
    return _finding(seen, "source-class", "warning", f"{counted(len(alone), 'source')} with one class only: {', '.join(map(str, alone[:8]))}",
                    "A model can learn the source in place of the disease; judge every source by itself.", rows, len(alone))  # fmt: skip


# -- what the images are -----------------------------------------------------------------------------------------


def mixtures(seen: Seen) -> list[Finding]:
    readable = seen.prints[seen.prints["error"] == ""]
    size, mode = sizes(readable).value_counts(), modes(readable).value_counts()
    found = []
    if len(size) > 1:
        found.append(Finding("mixed-sizes", "note", f"images come in {len(size):,} sizes, most often {size.index[0]} ({size.iloc[0]:,})",
                             "They are brought to one size; see that size does not tell the label (shortcut risk).", len(size)))  # fmt: skip
    if len(mode) > 1:
        found.append(Finding("mixed-modes", "warning", f"images come in {len(mode)} modes: {', '.join(f'{k} ({v:,})' for k, v in mode.items())}",
                             "See that the mode does not tell the label; convert them alike if it does.", len(mode)))  # fmt: skip
    return found


def doubtful(seen: Seen) -> list[Finding]:
    """Images that were read by a decision against what their header says, the commonest decision first."""
    notes = seen.prints["notes"].str.split("; ").explode()
    notes = notes[notes.str.startswith(DOUBT)].str.removeprefix(DOUBT)
    kinds = notes.str.replace(r"\d[\d,]*", "…", regex=True).value_counts()
    listed = "; ".join(f"{kind} ({count:,})" for kind, count in kinds.items())
    return _finding(seen, "doubtful-pixels", "warning", f"{counted(notes.index.nunique(), 'image')} whose header contradicts the pixels: {listed}",
                    "See that they look as they should; the column notes of the fingerprints says what was decided for each.", notes.index.unique())  # fmt: skip


def padded(seen: Seen) -> list[Finding]:
    """Squares around points that reach beyond their volumes, and how far the worst does."""
    notes = seen.prints["notes"].str.split("; ").explode()
    notes = notes[notes.str.startswith(BEYOND)].str.removeprefix(BEYOND)
    most = notes.str.extract(r"(\d+)%")[0].astype(float).max() if len(notes) else 0
    return _finding(seen, "padded-squares", "note", f"{counted(notes.index.nunique(), 'square')} around a point reach beyond the volume, by up to {most:.0f} % of the square, which is filled with the lowest value",
                    "See that the border does not tell the label; a smaller --side cuts less.", notes.index.unique())  # fmt: skip


#: The part of an image that may be black border before it is reported.
BORDER = 0.1


def burned_in(seen: Seen) -> list[Finding]:
    """Text in the pixels, by sight or by the header."""
    tagged = seen.cases.table.get("burned_in", pd.Series("", index=seen.cases.table.index)).to_numpy() == "YES"
    rows = np.flatnonzero((seen.prints["text"] > 0).to_numpy() | tagged)
    return _finding(seen, "burned-in", "warning", f"{counted(len(rows), 'image seems', 'images seem')} to hold burned-in text",
                    "Look at them: text can name the patient, and can tell a model where an image comes from. Mask it, cut it off, or leave them out.", rows)  # fmt: skip


def frames(seen: Seen) -> list[Finding]:
    """Black borders, and circular fields."""
    circle = np.flatnonzero(seen.prints["circle"])
    border = np.setdiff1d(np.flatnonzero(seen.prints["border"] > BORDER), circle)
    circular = _finding(seen, "circular-field", "note", f"{counted(len(circle), 'image shows', 'images show')} a circular field",
                        "--crop field cuts to the circle, so that its size in the picture tells nothing.", circle)  # fmt: skip
    return circular + _finding(seen, "black-borders", "note", f"{counted(len(border), 'image')} with black borders over more than {BORDER:.0%} of the picture",
                               "--crop border cuts them off.", border)  # fmt: skip


def shortcut_risk(found: dict[str, Any]) -> list[Finding]:
    """How bad it is that the label can be told without looking; of slides also that their tissue tells it, which the disease may do."""
    of_tissue = {name: one for name, one in found["by feature"].items() if name in found["may be the disease"]}
    return _by_source_and_file(found, of_tissue) + _by_tissue(found, of_tissue)


def _by_tissue(found: dict[str, Any], each: dict[str, Any]) -> list[Finding]:
    if not each or verdict_of(list(each.values())) == "low":
        return []
    listed = ", ".join(f"{name} {one['auc']:.2f}" for name, one in each.items())
    return [Finding("shortcut-tissue", "warning", f"the label can be told from the colour and brightness of the slides' overviews alone (AUC: {listed}), which the disease itself may cause, or another laboratory",
                    "Look whether it is the disease: say where each slide comes from (--source), compare within each source, and bring stains to one look (stain macenko or reinhard).",
                    found["images"])]  # fmt: skip


def _by_source_and_file(found: dict[str, Any], aside: dict[str, Any]) -> list[Finding]:
    if found["verdict"] in ("", "low"):
        return []
    each = {"together": found, **{name: one for name, one in found["by feature"].items() if name not in aside}}
    listed = ", ".join(f"{name} {one['auc']:.2f}" for name, one in each.items())
    severity: Severity = "error" if max(one["auc"] for one in each.values()) >= 0.97 else "warning"
    return [Finding("shortcut", severity, f"the label can be told without looking at what the image shows (AUC: {listed})",
                    "A good result need not mean that the disease was seen: test on a source of its own (--deploy-to, --leave-out) and compare within each source.",
                    found["images"])]  # fmt: skip


CHECKS: tuple[Callable[[Seen], list[Finding]], ...] = (
    unreadable, missing_label, leaks, near_leaks, exact_duplicates, near_duplicates, chains, conflicting_labels, patients,
    classes, sources, blank, mixtures, doubtful, padded, burned_in, frames,
)  # fmt: skip


# -- what the table holds, counted: images and patients by class, source, size, mode and given part ---------------


def count(cases: Cases, prints: pd.DataFrame, excluded: int) -> dict[str, Any]:
    """``counts`` of an audit, as JSON."""
    table = cases.table
    per_patient = table.groupby("patient").size()
    readable = prints[prints["error"] == ""]
    return {
        "images": len(table), "cases": int(table["case"].nunique()), "patients": cases.patients,
        "labelled": int(cases.labelled.sum()), "excluded": excluded,
        "images per patient": {"median": float(per_patient.median()), "max": int(per_patient.max())},
        **cases.target.task.count(cases.labels, cases.table["patient"]), "sources": _sources(cases),
        "sizes": _most(sizes(readable)), "modes": _most(modes(readable)), "formats": _most(readable["format"]),
        "given split": _given(table),
    }  # fmt: skip


@checked
def sizes(prints: pd.DataFrame) -> pd.Series:
    """``224×224`` or ``28×28×28`` for each image."""
    flat = prints["height"].astype(str) + "×" + prints["width"].astype(str)
    return flat.where(prints["depth"] <= 1, prints["depth"].astype(str) + "×" + flat)


@checked
def modes(prints: pd.DataFrame) -> pd.Series:
    """``colour, 8 bit`` for each image."""
    return prints["mode"] + ", " + prints["bits"].astype(str) + " bit"


def _most(values: pd.Series, most: int = 20) -> dict[str, int]:
    counts = values.value_counts()
    counts = counts[sorted(counts.index, key=lambda name: (-counts[name], str(name)))]
    rest = int(counts.iloc[most:].sum())
    return {str(k): int(v) for k, v in counts.iloc[:most].items()} | ({"other": rest} if rest else {})


def _sources(cases: Cases) -> dict[str, Any]:
    table = cases.table
    found = {}
    for source in sorted(set(table["source"]) - {""}):
        rows = (table["source"] == source).to_numpy()
        some = cases.take(rows)
        counted = cases.target.task.count(some.labels, some.table["patient"])
        classes = {n: c["images"] for n, c in counted.get("classes", {}).items()}
        found[source] = {"images": int(rows.sum()), "patients": some.patients, "classes": classes}
    return found


def _given(table: pd.DataFrame) -> dict[str, Any]:
    given = {part: table["patient"][table["split"] == part] for part in PARTS}
    return {part: {"images": len(who), "patients": int(who.nunique())} for part, who in given.items() if len(who)}
