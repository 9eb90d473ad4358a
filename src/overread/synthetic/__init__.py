"""Synthetic patients with a known truth, drawn by seed: for the demo, the tests and the docs."""

from overread.synthetic.cohort import draw_cohort
from overread.synthetic.disease_tree import draw_disease_tree
from overread.synthetic.draw import draw
from overread.synthetic.mammograms import draw_mammograms
from overread.synthetic.nodules import draw_nodules
from overread.synthetic.planted_nodule import draw_planted_nodules
from overread.synthetic.several_images import draw_cases
from overread.synthetic.slides.huge_slide import draw_huge_slide
from overread.synthetic.slides.slide_cohort import draw_slides
from overread.synthetic.tracks import draw_tracks

__all__ = [
    "draw",
    "draw_cases",
    "draw_cohort",
    "draw_disease_tree",
    "draw_huge_slide",
    "draw_mammograms",
    "draw_nodules",
    "draw_planted_nodules",
    "draw_slides",
    "draw_tracks",
]
