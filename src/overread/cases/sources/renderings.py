"""Of several renderings of one image in an export of DICOM files, the one that is learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.images.dicom.header import RAW, SEEN

#: Columns of which a query (``--where``) decides which renderings are taken.
DECIDING = ("intent", "image_type", "secondary_capture")


@checked
def for_people(table: pd.DataFrame) -> tuple[NDArray[np.bool_], list[str]]:
    """Which rows of the table of an export are learned from, as a mask (N,), and what is told of the others.

    Left out are images FOR PROCESSING of a view that stands there FOR PRESENTATION as well (PS3.3 C.8.11.7), and
    secondary captures (screen shots, results of CAD) beside the images of their study: whoever learns from both learns
    from two kinds of pixels, and which of them an image has may tell its label.
    """
    view = table["view"].str.replace(r" \d+$", "", regex=True)  # several of one view are numbered
    view_of_case = list(zip(table["case"], view, strict=True))
    seen = {one for one, intent in zip(view_of_case, table["intent"], strict=True) if intent == SEEN}
    raw = (table["intent"] == RAW).to_numpy(bool) & np.fromiter((one in seen for one in view_of_case), bool, len(table))
    captured = (table["secondary_capture"] == "YES").to_numpy(bool)
    copies = captured & table["case"].isin(table["case"][~captured]).to_numpy(bool)
    told = (
        (raw, "FOR PROCESSING beside the same view FOR PRESENTATION", "intent == 'FOR PROCESSING'"),
        (copies, "secondary captures beside other images of their study", "secondary_capture == 'YES'"),
    )
    notes = [
        f'left out: {int(mask.sum()):,} of {len(table):,} images, {what}; --where "{query}" takes these instead'
        for mask, what, query in told if mask.any()
    ]  # fmt: skip
    return ~(raw | copies), notes
