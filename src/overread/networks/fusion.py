"""Cases of several images: one body for all of them, and what makes one answer of their features.

A batch of cases is one tensor (B, V, C, H, W), or (B, V, C, D, H, W) of volumes, in which a missing image is NaN, as a
missing label is: it can be cut, flipped and moved like any batch. The body sees the images that are there, and no others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from overread.core.errors import checked, one_of, require

#: Outputs (B, V, K) and which views are there (B, V) → (B, K).
Pool: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Widths of what is learned above the features, at most.
_HIDDEN = 128
#: Images that the body sees at a time where it has no state of a batch.
_AT_A_TIME = 64


class Fused(nn.Module):
    """A body that all images of a case share, a fusion of their features, and a linear head.

    ``body``: a :class:`~overread.networks.small.Network`, or anything with ``features`` (n, F), ``width`` and ``head``;
    its own head is taken away. ``places``: views that have a place of their own (``late``, ``concat``, ``stacked``). ``learned``:
    whether more than the head will be learned, so that ``concat`` may look at pairs of views. ``pool``: outputs (B, V, K)
    and which views are there (B, V) → the outputs (B, K) of their mean probabilities, for ``late``
    (:meth:`overread.tasks.task.Task.pooled`). ``units``: those of ``recurrent``. Like a network it has
    ``features``, ``head``, ``forward``, ``width`` and ``outputs``.
    """

    def __init__(
        self,
        body: Any,
        fusion: str,
        *,
        outputs: int,
        places: int = 0,
        dropout: float = 0.0,
        learned: bool = True,
        pool: Pool | None = None,
        units: str = "gru",
    ) -> None:
        super().__init__()
        require(0 <= dropout < 1, "dropout must lie in [0, 1)", given=dropout)
        self.body, self.outputs, self.dimensions = body, outputs, getattr(body, "dimensions", 2)
        body.head = nn.Identity()
        makers: dict[str, Callable[[], Any]] = {
            "mean": lambda: Mean(body.width),
            "concat": lambda: SideBySide(body.width, places, learned=learned),
            "late": lambda: Late(body.width, places, outputs, pool),
            "stacked": lambda: ByView(body.width, places, outputs),
            "recurrent": lambda: Recurrent(body.width, units),
            "attention": lambda: Attention(body.width),
            "gated-attention": lambda: GatedAttention(body.width),
        }
        self.fuse: Any = makers[fusion]()
        self.dropout = nn.Dropout(dropout)
        self.width: int = self.fuse.width
        head = nn.Linear(self.fuse.width, outputs)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        if fusion == "late":  # the answer is there; a head that changes nothing, until it is calibrated
            nn.init.eye_(head.weight)
            head.requires_grad_(False)
        self.head: nn.Module = head

    def present(self, x: Tensor) -> Tensor:
        """(B, V) which images of cases (B, V, C, H, W) are there."""
        images = self.dimensions + 1
        require(
            x.ndim == images + 2,
            "the network takes cases of several images",
            given=f"a tensor of shape {tuple(x.shape)}",
        )
        return ~x.flatten(2)[..., 0].isnan()

    def each(self, x: Tensor) -> Tensor:
        """Features (B, V, F) of the images of cases; of those that are missing, 0."""
        mask = self.present(x)
        layout = torch.channels_last_3d if self.dimensions == 3 else torch.channels_last
        images = x[mask].contiguous(memory_format=layout)  # (n, C, H, W)
        if not len(images):
            return x.new_zeros(*mask.shape, self.body.width)
        parts = (images,) if self.training else images.split(_AT_A_TIME)
        return spread(torch.cat([self.body.features(part) for part in parts]), mask)

    def features(self, x: Tensor) -> Tensor:
        """The fused features (B, width) that the head sees, of cases (B, V, C, H, W)."""
        return self.fuse(self.dropout(self.each(x)), self.present(x))

    def forward(self, x: Tensor) -> Tensor:
        """The outputs before softmax or sigmoid, (B, outputs), of cases (B, V, C, H, W)."""
        return self.head(self.features(x))

    def above(self) -> Above:
        """What is learned above the body, with the same weights: of features of the body, which need not be made again."""
        return Above(copy.deepcopy(self.fuse), copy.deepcopy(self.dropout), copy.deepcopy(self.head))


class Above(nn.Module):
    """A fusion and a head of features (B, V, F) of the images of cases, NaN where one is missing."""

    def __init__(self, fuse: Any, dropout: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.fuse, self.dropout, self.head = fuse, dropout, head

    def forward(self, features: Tensor) -> Tensor:
        there = ~features[..., 0].isnan()
        return self.head(self.fuse(self.dropout(features.nan_to_num()), there))


@checked
def spread(features: Tensor, mask: Tensor) -> Tensor:
    """Features (n, F) of the images that are there, at their places (B, V, F); 0 elsewhere.

    >>> spread(torch.tensor([[1.0], [2.0]]), torch.tensor([[True, False], [False, True]]))[..., 0].tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    made = features.new_zeros(*mask.shape, features.shape[-1])
    made[mask] = features
    return made


# -- fusions: (B, V, F) and a mask (B, V) → (B, width); what is missing never counts ----------------------------------


class Mean(nn.Module):
    """The mean of the features over the images that are there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return (features * share[..., None]).sum(1)


class SideBySide(nn.Module):
    """The features of each view in its place, then which views are there; a missing view is 0.

    Where more than the head is learned, a hidden layer over all of them stands beside: a linear head adds up what each
    view says, and cannot see that two views differ.
    """

    def __init__(self, width: int, places: int, *, learned: bool) -> None:
        super().__init__()
        require(places >= 2, "features are put side by side for two views or more", given=places)
        self.places = places
        flat = places * (width + 1)
        self.norm = nn.LayerNorm(flat) if learned else None
        self.hidden = nn.Linear(flat, _HIDDEN) if learned else None
        self.width = flat + (_HIDDEN if learned else 0)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        require(
            features.shape[1] == self.places,
            "each view needs its place",
            given=f"{features.shape[1]} for {self.places}",
        )
        flat = torch.cat([features.flatten(1), mask.to(features.dtype)], 1)
        if self.hidden is None or self.norm is None:
            return flat
        return torch.cat([flat, torch.relu(self.hidden(self.norm(flat)))], 1)


class ByView(nn.Module):
    """The outputs of one classifier a view, then which views are there: what a second stage learns from (Ciompi 2015).

    Until there is a second stage, :meth:`summed` stands in its place: of a case with one image, that is the answer of its
    view's classifier.
    """

    def __init__(self, width: int, places: int, outputs: int) -> None:
        super().__init__()
        require(places >= 2, "there are classifiers for two views or more", given=places)
        self.places, self.outputs = places, outputs
        self.weight = nn.Parameter(torch.empty(places, outputs, width))
        self.bias = nn.Parameter(torch.zeros(places, outputs))
        nn.init.normal_(self.weight, std=0.01)
        self.width = places * (outputs + 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        require(
            features.shape[1] == self.places,
            "each view needs its place",
            given=f"{features.shape[1]} for {self.places}",
        )
        outputs = self.answers(features)
        return torch.cat([(outputs * mask[..., None]).flatten(1), mask.to(outputs.dtype)], 1)

    def answers(self, features: Tensor) -> Tensor:
        """What the classifier of each view says (B, V, outputs) of the features of its view (B, V, F)."""
        return torch.einsum("bvf,vkf->bvk", features, self.weight) + self.bias

    def set_classifier(self, place: int, weight: Tensor, bias: Tensor) -> None:
        """Make ``weight`` (F, outputs) and ``bias`` (outputs,) the classifier of the view at ``place``."""
        with torch.no_grad():
            self.weight[place].copy_(weight.T)
            self.bias[place].copy_(bias)

    def summed(self) -> nn.Module:
        """A head that adds up what the classifiers say, and learns nothing."""
        return _Summed(self.places, self.outputs)


class Late(ByView):
    """The mean of the probabilities that one classifier a view gives to its view, as outputs before softmax or sigmoid.

    Nothing is learned above the classifiers; a missing view has no say. Setio 2016 (doi:10.1109/TMI.2016.2536809) calls
    that committee fusion, and late fusion what is ``concat`` here.
    """

    def __init__(self, width: int, places: int, outputs: int, pool: Pool | None) -> None:
        super().__init__(width, places, outputs)
        require(pool is not None, "the fusion late needs to know what probabilities are", todo="give pool=task.pooled")
        self.pool, self.width = pool, outputs

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        require(features.shape[1] == self.places, "each view needs its place", given=f"{features.shape[1]} for {self.places}")  # fmt: skip
        assert self.pool is not None  # by __init__
        return self.pool(self.answers(features), mask)


class _Summed(nn.Module):
    def __init__(self, places: int, outputs: int) -> None:
        super().__init__()
        self.places, self.outputs = places, outputs

    def forward(self, features: Tensor) -> Tensor:
        return features[:, : self.places * self.outputs].unflatten(1, (self.places, self.outputs)).sum(1)


class Recurrent(nn.Module):
    """The last state of recurrent ``units`` over the images, first to last; of ``bi-`` units also last to first.

    After Buggenthin 2017 (doi:10.1038/nmeth.4182), who follow cells by a bidirectional network of long short-term memory
    over the features of a convolutional one. ``gru``: Cho 2014, arXiv:1406.1078; ``lstm``: Hochreiter and Schmidhuber 1997
    (doi:10.1162/neco.1997.9.8.1735). A missing image is passed over.
    """

    def __init__(self, width: int, units: str = "gru") -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[
            one_of(units.removeprefix("bi-"), ("gru", "lstm"), "the recurrent units")
        ]
        both = units.startswith("bi-")
        hidden = min(_HIDDEN, width)
        self.width, self.hidden = hidden * (1 + both), hidden
        self.norm = nn.LayerNorm(width)
        self.gru = kind(width, hidden, batch_first=True)
        self.back = kind(width, hidden, batch_first=True) if both else None

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        there, gone = mask.long(), (~mask).long()
        behind = there.sum(1, keepdim=True) + gone.cumsum(1)
        seen, many = self.norm(features), mask.sum(1)
        made = self._last(self.gru, seen, torch.where(mask, there.cumsum(1), behind), many)
        if self.back is None:
            return made
        turned = torch.where(mask, there.sum(1, keepdim=True) - there.cumsum(1) + 1, behind)
        return torch.cat([made, self._last(self.back, seen, turned, many)], 1)

    def _last(self, units: nn.Module, seen: Tensor, place: Tensor, many: Tensor) -> Tensor:
        """The state (B, hidden) after the last image that is there, taken in the order of their ``place`` (B, V)."""
        order = place.argsort(dim=1)  # those that are there first, in their order
        ordered = seen.gather(1, order[..., None].expand_as(seen))
        start = (ordered[:, 0, : self.hidden] * 0)[None]  # a tracer would freeze the batch of one that is left out
        states, _ = units(ordered, (start, start) if isinstance(units, nn.LSTM) else start)  # (B, V, hidden)
        last = (many - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.hidden)
        return states.gather(1, last)[:, 0] * (many > 0)[:, None]


class Attention(nn.Module):
    """The mean of the features, weighted by what each image shows: softmax of wᵀ tanh(V h) (Ilse 2018,
    arXiv:1802.04712, equations 7 and 8). At first all images weigh alike.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.look = nn.Linear(width, min(_HIDDEN, width))
        self.weigh = nn.Linear(self.look.out_features, 1, bias=False)
        nn.init.zeros_(self.weigh.weight)

    def scores(self, features: Tensor) -> Tensor:
        """What the share of each image grows with, (B, V)."""
        return self.weigh(torch.tanh(self.look(features)))[..., 0]

    def weights(self, features: Tensor, mask: Tensor) -> Tensor:
        """The share (B, V) of each image, which add up to 1; 0 where there is none."""
        score = self.scores(features).float()
        score = score.masked_fill(~mask, torch.finfo(score.dtype).min)  # finite: a case may have no image at all
        return score.softmax(1) * mask

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return (features * self.weights(features, mask)[..., None].to(features.dtype)).sum(1)


class GatedAttention(Attention):
    """As :class:`Attention`, by wᵀ (tanh(V h) · sigm(U h)): a gate that lets features through, since tanh is all but linear
    near 0 (Ilse 2018, equation 9).
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate = nn.Linear(width, self.look.out_features)

    def scores(self, features: Tensor) -> Tensor:
        """What the share of each image grows with, (B, V)."""
        return self.weigh(torch.tanh(self.look(features)) * torch.sigmoid(self.gate(features)))[..., 0]
