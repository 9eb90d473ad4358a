"""The figure of a range test: loss against learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter, NullFormatter

from overread.core.errors import checked
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, SOFT, VERMILION, Figure


@checked
def learning_rate(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggested: float
) -> Figure:
    """The loss of each step and its smoothed course, with the suggested rate marked."""
    at = smoothed[list(rates).index(suggested)]
    with canvas.sheet(5.6, 3.6) as drawing:
        axes = drawing.subplots()
        axes.plot(rates, losses, color=SOFT, linewidth=0.7)
        axes.plot(rates, smoothed, color=BLUE)
        axes.plot(suggested, at, "o", color=VERMILION, markersize=7)
        axes.annotate(f"{suggested:.1g}", (suggested, at), xytext=(8, 4), textcoords="offset points")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        least, first = min(smoothed), max(losses[0], smoothed[0])
        axes.set_ylim(least - 0.5 * (first - least), first + (first - least))  # past that it diverges
        axes.set(xlabel="Learning rate", ylabel="Training loss")
        return canvas.finish(drawing, "learning-rate", "Loss against learning rate",
                             f"Half of the fall of the smoothed training loss is done at a rate of {suggested:.1g}.",
                             f"{len(rates)} steps, one at each rate; line: exponential average. Dot: half of the fall.")  # fmt: skip
