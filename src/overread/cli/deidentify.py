"""The command that writes a cleaned copy of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, end, say, table
from overread.core.errors import one_of
from overread.core.phrases import count

if TYPE_CHECKING:
    from overread.deidentify.export import Deidentified


def deidentify(
    source: Annotated[Path, typer.Argument(help="a folder of DICOM files and slides, or one file")],
    output: Annotated[Path, typer.Option("-o", "--output", help="an empty folder for the cleaned copy")],
    salt: Annotated[str, typer.Option(help="file with the secret that makes the codes; made if it is not there; none: one that is forgotten")] = "",
    key: Annotated[str, typer.Option(help="file for the list of codes and the identifiers behind them; none is written if not given")] = "",
    keep_dates: Annotated[str, typer.Option(help="shifted: dates moved by the same number of days for all files of a patient; removed if not given")] = "",
    keep_device: Annotated[bool, typer.Option("--keep-device", help="keep serial numbers and names of devices")] = False,
    keep_characteristics: Annotated[bool, typer.Option("--keep-characteristics", help="keep age, sex, size and weight")] = False,
    allow_burned_in: Annotated[bool, typer.Option("--allow-burned-in", help="export images that may have names in their pixels, too")] = False,
) -> None:  # fmt: skip
    """A cleaned copy of DICOM files by the basic profile of PS3.15, and of whole slides without their labels; exit code 1 if images were refused."""
    from overread.deidentify import export as cleaning

    one_of(keep_dates, ("", "shifted"), "--keep-dates")
    cleaning.require_apart(source, output, [Path(name) for name in (salt, key) if name])
    secret = cleaning.read_salt(salt) if salt else cleaning.new_salt()
    rules = cleaning.Rules(secret, keep_dates or "removed", keep_device, keep_characteristics)
    with bars() as progress:
        made = cleaning.deidentify(
            source, output, rules=rules, key=key or None, allow_burned_in=allow_burned_in, progress=progress
        )
    _tell(made, with_salt=bool(salt))
    then = f"look at some of the images yourself, then: overread audit {output}"
    end([*made.files, *([Path(key)] if key else [])], then if made.written else "")
    if made.refused or not made.written:
        raise typer.Exit(1)


def _tell(made: Deidentified, *, with_salt: bool) -> None:
    rows = [("written", f"{made.written:,}", f"of {made.patients:,} patients")]
    rows += [("refused", f"{count:,}", reason) for reason, count in made.refused.items()]
    rows += [("left out", f"{count:,}", reason) for reason, count in made.left_out.items()]
    rows += [("not copied", f"{made.not_dicom:,}", "neither DICOM nor a slide")] * bool(made.not_dicom)
    rows += [("not copied", f"{made.links:,}", "links, which are not followed")] * bool(made.links)
    table(("files", "", ""), rows)
    methods = "; ".join(made.methods.values())
    say(f"Basic Application Level Confidentiality Profile of DICOM PS3.15 {made.edition}: {methods}")
    if not made.written:
        say("no DICOM image and no slide was written: is this the right folder?")
    if made.slides:
        say(f"{count(made.slides, 'whole slide')}: the tissue alone was copied, without label, photograph of the glass, thumbnail, file name, user and "
            "date (deidentified.csv says what of each); slides name no patient, so each has a code of its own: --key FILE lists "
            "them by path")  # fmt: skip
    if not with_salt:
        say("without --salt the codes were made with a secret that is now forgotten: a later export cannot be linked to "
            "this one")  # fmt: skip
    if made.faces:
        say(f"{made.faces:,} files may show a face (CT, MR or PET of the head, or of a part that is not named): the profile "
            "does not remove faces")  # fmt: skip
    if any(reason.startswith("burned-in") for reason in made.refused):
        say("names may stand in the pixels of refused images; deidentified.csv lists them by code, --key FILE by path; "
            "--allow-burned-in exports them")  # fmt: skip
