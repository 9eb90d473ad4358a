"""The steps of a study of slides: a network of their tiles, heat maps in place of plain answers, and lesions judged beside these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import checked
from overread.predictions import Predictions
from overread.study import image_steps
from overread.study.context import RunContext
from overread.study.slides.lesion_search import judge_lesions
from overread.study.slides.lesion_tables import outlines_digest
from overread.study.slides.map_budget import reserve_for_maps

if TYPE_CHECKING:
    from overread.learning.model import Model


@checked
def beside(context: RunContext, cases: Cases) -> tuple[str, ...]:
    """A hash of what the files of outlines hold."""
    return (outlines_digest(cases),)


@checked
def teach(context: RunContext, cases: Cases, parts: Split, recipe: Any, how: dict[str, Any]) -> Any:
    """A model of tiles; ``how``: the arguments that every training has."""
    from overread.slides.tile_classifier import train_on_slides

    return train_on_slides(cases, parts, recipe, reserve=reserve_for_maps(context, cases, parts), **how)


@checked
def predict(context: RunContext) -> None:
    """Heat maps of the tuning and the test part, and what they say; made again where outlines change, which choose how maps are read."""
    image_steps.predict_by(context, _answers, beside(context, context.usable()))


def _answers(context: RunContext, model: Model, cases: Cases, parts: Split) -> Mapping[str, Predictions]:
    from overread.study.slides.slide_predictions import predict_slides

    return predict_slides(context, model, cases, parts)


@checked
def evaluate(context: RunContext) -> None:
    """The answers for slides, then the lesions that were found."""
    image_steps.evaluate(context)
    judge_lesions(context)
