"""Synthetic patients with a known truth, drawn by seed: for the demo, the tests and the docs."""

from overread.synthetic.cohort import draw_cohort

__all__ = ["draw_cohort"]
