"""Several findings a case, each present, absent or unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import require
from overread.core.phrases import count
from overread.tasks.task import LEAST, UNSAID, Loss, Task, judged_rows, mean_auc, squared_hinge

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Findings(Task):
    """A yes, no or unknown per finding: a sigmoid each, binary cross-entropy, unknowns masked."""

    multilabel: ClassVar[bool] = True
    label_values: ClassVar[tuple[float, ...]] = (0.0, 1.0)
    plural: ClassVar[str] = "findings"
    metrics_of: ClassVar[tuple[str, ...]] = ("findings",)
    losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "focal", "balanced cross-entropy")
    proper_losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "balanced cross-entropy")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """``label:<finding>``."""
        return tuple(f"label:{name}" for name in self.names)

    @property
    def question(self) -> str:
        """The findings, and that each is asked for on its own."""
        return f"{self.summary}, each present or absent"

    @property
    def separate_names(self) -> tuple[str, ...]:
        """The findings."""
        return self.names

    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """float64 (N, findings): 1, 0, NaN where unknown."""
        return table.loc[:, list(self.label_columns)].to_numpy(np.float64)

    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) where any finding is known."""
        return ~np.isnan(labels).all(axis=1)

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The rarest finding that is present, counted from 1; 0 for none."""
        rarity = np.argsort(np.nansum(labels, axis=0), kind="stable")
        stratum = np.zeros(len(labels), np.int64)
        for rank, finding in enumerate(rarity[::-1]):
            stratum[labels[:, finding] == 1] = rank + 1
        return stratum

    def presence(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, findings) which are present."""
        return np.asarray(labels == 1)

    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """The findings as they are."""
        return labels.astype(np.float64), self.names

    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """Also where a finding is absent or unknown."""
        present, absent, unknown = labels == 1, labels == 0, np.isnan(labels)
        return {"classes": {name: {"images": int(present[:, i].sum()), "patients": int(patient[present[:, i]].nunique()),
                                   "absent": int(absent[:, i].sum()), "unknown": int(unknown[:, i].sum())}
                            for i, name in enumerate(self.names)}}  # fmt: skip

    def fewest_patients(self, labels: NDArray[Any], patient: NDArray[Any]) -> int:
        """Patients of the rarer answer of the rarest finding."""
        answers = [(k, value) for k in range(labels.shape[1]) for value in (0, 1)]
        return min(len(np.unique(patient[labels[:, k] == value])) for k, value in answers)

    @property
    def pointed(self) -> tuple[tuple[str, ...], ...]:
        """Each finding."""
        return tuple((name,) for name in self.names)

    def sharing_a_point(self, names: Sequence[str]) -> tuple[str, ...]:
        """Each finding stands alone."""
        require(len(names) == 1, "findings have one operating point each", given=", ".join(names), todo="name one finding")  # fmt: skip
        return tuple(names)

    def asked(self, pointed: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], bool], ...]:
        """Each finding, in full."""
        return tuple((group, True) for group in self.pointed)

    def answers_about(self, positive: Sequence[str]) -> tuple[str, ...]:
        """The findings asked about, each yes or no."""
        return tuple(positive)

    def holds(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """The findings as they are."""
        return labels.astype(np.float64)

    def label_words(self, labels: NDArray[Any]) -> list[str]:
        """The findings that are there."""
        return [self._present(row == 1) if known else "" for row, known in zip(labels, self.known(labels), strict=True)]

    def answer_words(self, scores: NDArray[Any]) -> list[str]:
        """The findings that are more probable than not."""
        return [self._present(row >= 0.5) for row in scores]

    def _present(self, there: NDArray[np.bool_]) -> str:
        return ", ".join(name for name, has in zip(self.names, there, strict=True) if has) or "none"

    @property
    def most_probable(self) -> str:
        """``the most probable finding``."""
        return "the most probable finding"

    def order_words(self, names: Sequence[str]) -> str:
        """By the largest."""
        return "Sorted by the largest probability of a finding."

    def title(self, names: Sequence[str], called: Callable[[str], str]) -> str:
        """``Detecting 14 findings on images``."""
        return f"Detecting {count(len(names), 'finding')} on images"

    def alternatives(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, 2) absent and present."""
        return np.stack([1 - scores, scores], axis=1)

    def judged(
        self, truth: NDArray[Any], scores: NDArray[Any], called: NDArray[np.int64] | None = None
    ) -> pd.DataFrame:
        """A row a case and finding; a finding is said to be present from .5 on."""
        tables = []
        for i, name in enumerate(self.names):
            has, flagged = truth[:, i] == 1, scores[:, i] >= 0.5
            off = np.abs(scores[:, i] - np.nan_to_num(truth[:, i]))
            said, right = [np.where(yes, name, f"no {name}") for yes in (has, flagged)], has == flagged
            tables.append(judged_rows(~np.isnan(truth[:, i]), {"truth": said[0], "predicted": said[1], "probability": scores[:, i],
                                                              "surprise": np.where(right, 1 - off, off), "correct": right}))  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    def class_weights(self, labels: NDArray[Any], balance: float) -> NDArray[np.float32]:
        """(findings,) the weight of a positive where a negative weighs 1; 1 for what all or none have."""
        positive, negative = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
        ratio = np.where((positive > 0) & (negative > 0), negative / np.maximum(positive, 1), 1.0)
        return np.asarray(ratio**balance, np.float32)

    def _proper_shift(self, labels: NDArray[Any], balance: float, sampling: str) -> NDArray[np.float64]:
        """(findings,) −log of the weight of positives.

        Where strata are drawn alike, the log odds of each finding in the training part minus those in what is drawn,
        which is exact as far as the strata tell no more of an image than the finding does.
        """
        if sampling != "balanced":
            return -np.log(self.class_weights(labels, balance).astype(np.float64))
        _, stratum, counts = np.unique(self.strata(labels), return_inverse=True, return_counts=True)
        drawn = (1.0 / counts)[stratum]  # how often each row is drawn, in proportion
        odds = [[(share[:, None] * (labels == answer)).sum(axis=0) for answer in (1, 0)] for share in (drawn, np.ones(len(labels)))]  # fmt: skip
        (sampled_positive, sampled_negative), (positive, negative) = odds
        both = (positive > 0) & (negative > 0)
        ratio = np.divide(positive * sampled_negative, negative * sampled_positive, out=np.ones(len(both)), where=both)
        return np.log(ratio)

    def loss(
        self, weights: NDArray[Any], smoothing: float, device: str = "cpu", *, name: str = "", gamma: float = 2.0,
        heads: Mapping[str, float] | None = None,
    ) -> Loss:  # fmt: skip
        """Binary cross-entropy over the known labels, positives weighted; ``focal``: (1 − p)^γ times it.

        p is the probability of the label (Lin 2017, equation 4), of a smoothed one the mean of the two. ``balanced
        cross-entropy``: the weights of a finding's positives and negatives add up to 1, N/(P + N) and P/(P + N) where
        ``weights`` are N/P (Rajpurkar 2017, "CheXNet", section 2.1); so that a rare finding does not weigh more than a
        common one, as it does where negatives weigh 1.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, softplus

        focal, balanced = (self.loss_name(name) == kind for kind in ("focal", "balanced cross-entropy"))
        scale, head = (
            torch.as_tensor(weights, device=device),
            torch.as_tensor(self.finding_weights(heads), device=device),
        )

        def each_finding(outputs: Tensor, aim: Tensor) -> Tensor:
            if not focal:
                return binary_cross_entropy_with_logits(outputs, aim, pos_weight=scale, reduction="none")
            present, absent = outputs.sigmoid(), (-outputs).sigmoid()
            hit = scale * absent.clamp(min=1e-12) ** gamma * softplus(-outputs)
            return aim * hit + (1 - aim) * present.clamp(min=1e-12) ** gamma * softplus(outputs)

        def loss(outputs: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
            known = ~torch.isnan(labels)
            aim = torch.where(known, labels, 0.0) * (1 - smoothing) + smoothing / 2
            each = each_finding(outputs, aim) * known
            if balanced:
                each = each / (1 + scale)
            if heads:
                each = each * head
            each = each if shares is None else each * shares[:, None]
            return each.sum() / known.sum().clamp(min=1)

        return loss

    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted binary cross-entropy, summed over the known findings."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        known = (~torch.isnan(labels)).to(outputs.dtype)
        aim = torch.where(known > 0, labels, 0.0)
        weight = known * torch.where(aim > 0, weights, 1.0)
        each = binary_cross_entropy_with_logits(outputs, aim.expand_as(outputs), reduction="none")
        return (each * weight).sum(-1), (outputs.sigmoid() - aim) * weight

    def hinge_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each known finding, positives weighted."""
        return squared_hinge(outputs, *self.aims(labels, weights))

    def aims(self, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """1 where present, −1 where absent; positives weighted, unknowns 0."""
        import torch

        known = (~torch.isnan(labels)).to(weights.dtype)
        aim = torch.where(known > 0, labels, 0.0)
        return 2 * aim - 1, known * torch.where(aim > 0, weights, 1.0)

    def groups(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of each finding those with it and those without; an output is the first less the second."""
        import torch

        one = torch.eye(self.outputs)
        return torch.cat([labels == 1, labels == 0], 1).float(), torch.cat([one, -one])

    def probabilities(self, outputs: Tensor) -> Tensor:
        """A sigmoid per finding."""
        return outputs.sigmoid()

    def pooled(self, outputs: Tensor, there: Tensor) -> Tensor:
        """The log odds of the mean sigmoid over the views that are there."""
        from torch.nn.functional import logsigmoid

        yes, no = (logsigmoid(sign * outputs.float()).masked_fill(~there[..., None], UNSAID) for sign in (1, -1))
        return yes.logsumexp(dim=1) - no.logsumexp(dim=1)

    def _as_outputs(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log odds."""
        return np.asarray(super()._as_outputs(answers) - np.log(np.clip(1 - answers, LEAST, 1)))

    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """The mean AUC of the findings, each over the rows where it is known."""
        known = ~np.isnan(labels)
        auc = mean_auc([(labels[rows, k] == 1, outputs[rows, k]) for k, rows in enumerate(known.T) if rows.any()])
        return -loss if auc is None else auc
