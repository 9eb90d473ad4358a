"""For people: one HTML page, figures, a model card, checklists, a gallery of errors. Draws stored numbers, computes none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overread.reporting.gallery import write_gallery
    from overread.reporting.model_card import card
    from overread.reporting.page import draw_all, report
    from overread.reporting.pages.checklists import write_checklists

__all__ = ["card", "draw_all", "report", "write_checklists", "write_gallery"]

#: What is slow to load (matplotlib, decoders of images) is loaded when it is asked for.
_LATER = {"card": "model_card", "draw_all": "page", "report": "page", "write_checklists": "pages.checklists", "write_gallery": "gallery"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
