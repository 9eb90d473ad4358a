"""One phantom slide of gigapixels, for what must not grow with a slide."""

from __future__ import annotations

import math
import os
from pathlib import Path

from overread.core.errors import checked, require
from overread.core.progress import Progress, silent
from overread.synthetic.slides.slide_cohort import write_outlines, write_slide
from overread.synthetic.slides.slide_plan import plan_slide
from overread.synthetic.slides.slide_scanners import SCANNERS

#: Glass is cheap: a large tile of it takes little more of the disk than a small one.
HUGE_TILE = 512


@checked
def draw_huge_slide(
    path: str | os.PathLike[str], *, gigapixels: float = 20.0, tissue_share: float = 0.02, mpp: float = 0.25, scanner: int = 0,
    seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw a square slide of so many ``gigapixels`` as pyramidal TIFF at ``path``, and give its path.

    A share ``tissue_share`` of it is tissue with islands of tumour up to 2 mm, outlined in the ASAP XML file beside it of the
    same stem; ``mpp`` microns a pixel; ``scanner`` 0 to 2. The same seed gives the same bytes. Raises ArgumentError for a
    slide smaller than 400 µm a side, and for shares outside (0, 0.7].

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_huge_slide(Path(folder) / "slide.tif", gigapixels=0.002, tissue_share=0.2, mpp=1.0).stat().st_size < 500_000
    True
    """
    require(0 < gigapixels <= 200, "a slide has up to 200 gigapixels", given=gigapixels)
    require(0.05 <= mpp <= 4, "mpp lies between 0.05 and 4 µm", given=mpp)
    require(0 <= scanner < len(SCANNERS), f"scanners are 0 to {len(SCANNERS) - 1}", given=scanner)
    side = mpp * math.sqrt(gigapixels * 1e9)
    plan = plan_slide(seed, 0, width=side, height=side, tissue_share=tissue_share, tumour="yes")
    write_outlines(Path(path).with_suffix(".xml"), plan, mpp=mpp)
    return write_slide(Path(path), plan, SCANNERS[scanner], mpp=mpp, tile=HUGE_TILE, progress=progress)
