"""For people: one HTML page, figures, a model card, a gallery of errors. Draws stored numbers, computes none."""

from overread.reporting.card import card
from overread.reporting.figures import draw_all
from overread.reporting.gallery import write_gallery
from overread.reporting.page import report

__all__ = ["card", "draw_all", "report", "write_gallery"]
