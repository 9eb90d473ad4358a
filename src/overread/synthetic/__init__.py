"""Synthetic patients with a known truth, drawn by seed: for the demo, the tests and the docs."""

from overread.synthetic.cohort import draw_cohort
from overread.synthetic.several_images import draw_cases

__all__ = ["draw_cases", "draw_cohort"]
