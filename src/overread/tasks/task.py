"""What a task owes the rest of the program: labels, outputs, loss, strata, columns of predictions, and words.

A task is bound to its names (classes, findings, or the one quantity). Labels are an array with a row an image or case:
a class index (−1 unknown), or 1, 0 and NaN per finding, or a number (NaN unknown), or 1 where there is a mask (else NaN).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import one_of, require
from overread.stats.estimate import rounded

if TYPE_CHECKING:
    from torch import Tensor


#: The log probability of what a missing view says: below that of any view that is there, and finite.
UNSAID = -1e4
#: The least probability of which a logarithm is taken.
LEAST = 1e-12


@runtime_checkable
class Loss(Protocol):
    """``(outputs (B, K), labels (B,) or (B, K), shares (B,)) -> scalar``; ``shares``: how much each row counts, else 1."""

    def __call__(self, outputs: Tensor, labels: Tensor, shares: Tensor | None = None, /) -> Tensor:
        """The mean over the known labels."""
        ...


@dataclass(frozen=True)
class Task(ABC):
    """One task. ``names``: classes, findings or the quantity; ``positive``: classes that count as disease.

    Subclasses say all that depends on what is asked; who needs something new of every task adds a method here.
    """

    names: tuple[str, ...]
    positive: tuple[str, ...] = ()

    #: Whether a case has exactly one of the names as its label: classes, also two.
    exclusive: ClassVar[bool] = False
    #: Whether the label is one of exactly two classes, so that there is one question.
    binary: ClassVar[bool] = False
    #: Whether each name is a yes-or-no question of its own, which may be unknown.
    multilabel: ClassVar[bool] = False
    #: Whether a number is predicted in place of probabilities; then there is no operating point.
    continuous: ClassVar[bool] = False
    #: Whether the answer is an image in which objects are outlined.
    dense: ClassVar[bool] = False
    #: The cell of a label that is not known.
    unknown: ClassVar[Any] = np.nan
    #: The only numbers that a label may be; empty where it may be any, or is a name.
    label_values: ClassVar[tuple[float, ...]] = ()
    #: Of what the metrics are that lead its results: a ``question``, ``all`` names together, a ``quantity``.
    subjects: ClassVar[tuple[str, ...]] = ("question", "all")
    #: What several names are called: ``classes``, ``findings``; empty where there is one number.
    plural: ClassVar[str] = ""
    #: The words under which the table of metrics names this task's: its own, or those of a task that it is a kind of.
    metrics_of: ClassVar[tuple[str, ...]] = ()
    #: The losses that can be learned by, the usual one first.
    losses: ClassVar[tuple[str, ...]] = ()
    #: Those that are least at the true probabilities, whatever the classes weigh.
    proper_losses: ClassVar[tuple[str, ...]] = ()
    #: Why two images cannot be mixed into one; empty where their labels can.
    unmixable: ClassVar[str] = ""

    # -- tables -----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def label_columns(self) -> tuple[str, ...]:
        """The columns of a table that hold labels."""

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """The columns of a table that hold predictions: ``p:<name>`` of each name."""
        return tuple(f"p:{name}" for name in self.names)

    @property
    def outputs(self) -> int:
        """Outputs of a network for this task."""
        return len(self.names)

    @property
    def multiclass(self) -> bool:
        """Whether each case has one of several classes, of which each is told against the rest."""
        return self.exclusive and not self.binary

    @property
    def summary(self) -> str:
        """What is asked, in a few words: ``binary label``, ``7 classes``."""
        return f"{len(self.names)} {self.plural}"

    @property
    def question(self) -> str:
        """What is told of an image, as a page puts it: ``7 classes``, ``two classes``, ``a quantity``."""
        return self.summary

    @property
    def answer(self) -> str:
        """What a model says of an image, in words."""
        return f"a probability for each of {self.summary}"

    @property
    def separate_names(self) -> tuple[str, ...]:
        """What is calibrated and covered on its own: each finding; else ``""``, the whole."""
        return ("",)

    @abstractmethod
    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """The labels of a table: int64 (N,) of classes, float64 (N, findings) or (N,) else."""

    @abstractmethod
    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) which rows have a label (for findings: at least one known)."""

    def distinct(self, labels: NDArray[Any]) -> int:
        """How many different answers are known; with fewer than two there is nothing to learn."""
        return len(np.unique(labels[~np.isnan(labels)]))

    @abstractmethod
    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """(N,) a number per row for stratified splitting."""

    def presence(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, K) which classes, present findings, or strata of the quantity each row has."""
        codes = self.strata(labels)
        return codes[:, None] == np.arange(codes.max(initial=0) + 1)[None, :]

    def fewest_patients(self, labels: NDArray[Any], patient: NDArray[Any]) -> int:
        """Patients of the rarest class, or of the rarer answer of the rarest finding; of a quantity all."""
        return len(np.unique(patient))

    @abstractmethod
    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """(N, K) 1, 0 or NaN, and what each column asks: one where one says all; of a quantity, above its median."""

    @abstractmethod
    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """Images and patients of each class or finding, or the range of the quantity; for a summary of a table."""

    @abstractmethod
    def holds(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """(N, K) 1 of the names that a case has, 0 of those it has not, NaN where that is unknown; of a quantity K = 0."""

    @property
    def only_name(self) -> str:
        """The one name of a task that has no others; blank where names are classes or findings."""
        return ""

    @property
    def usual_positive(self) -> str:
        """The class that counts as disease where nobody says which: what the names of two tell, else blank."""
        return ""

    @property
    def pointed(self) -> tuple[tuple[str, ...], ...]:
        """The groups of names that have an operating point each; blank where :attr:`usual_positive` is asked for."""
        return (self.positive,) if self.positive else ()

    def sharing_a_point(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names; raises :class:`ArgumentError` for those that cannot share one operating point."""
        return tuple(names)

    def asked(self, pointed: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], bool], ...]:
        """What is asked where the groups ``pointed`` have an operating point: the names of each question, and whether it is
        judged in full, at a threshold. Raises :class:`ArgumentError` for points that this task cannot have."""
        groups = dict.fromkeys((self.positive, *pointed))
        each = (((name,), (name,) in groups) for name in self.names)
        return (*((group, True) for group in groups if len(group) > 1), *each)

    def answers_about(self, positive: Sequence[str]) -> tuple[str, ...]:
        """Among which names a reader chooses who is asked about ``positive``: all; of a finding it is the only one."""
        return self.names

    # -- words: what people read of a case --------------------------------------------------------------------------

    @abstractmethod
    def label_words(self, labels: NDArray[Any]) -> list[str]:
        """(N,) labels: the class, the findings that are there (``none``), the number; blank where unknown."""

    @abstractmethod
    def answer_words(self, scores: NDArray[Any]) -> list[str]:
        """(N,) what is most probable by scores (N, K): the class, the findings from .5 on (``none``), the number."""

    def number_words(self, value: float) -> str:
        """One answer as a number: a probability with three digits."""
        return rounded(value)

    def asked_of(self, name: str) -> str:
        """What the number of a name says: ``Probability of`` it."""
        return f"Probability of {name}"

    @property
    def most_probable(self) -> str:
        """What is shown where none of the names was chosen: ``the most probable class``; empty where there is one number."""
        return ""

    @abstractmethod
    def order_words(self, names: Sequence[str]) -> str:
        """By what cases are sorted where no name counts as disease, in a sentence; ``names`` as a page writes them."""

    @abstractmethod
    def title(self, names: Sequence[str], called: Callable[[str], str]) -> str:
        """What a study is about; ``names`` as a page writes them, ``called`` writes classes that are joined by ``+``."""

    @abstractmethod
    def alternatives(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, answers) the probabilities of what excludes each other, of one case (K,); n = 0 where there are none."""

    @abstractmethod
    def judged(
        self, truth: NDArray[Any], scores: NDArray[Any], called: NDArray[np.int64] | None = None
    ) -> pd.DataFrame:
        """A row an answer whose truth is known: ``row``, ``truth`` and ``predicted`` in words, ``probability``, ``correct``,
        and ``surprise``: how surely it was said, of errors how surely wrong.

        ``truth``: labels, ``scores``: (N, K). ``called``: (N,) the classes, where these are chosen otherwise than by the
        largest score. Of a quantity every answer is an error, and those nearer than the median error are correct as well.
        """

    # -- learning: torch is imported where it is called -----------------------------------------------------------

    def class_weights(self, labels: NDArray[Any], balance: float) -> NDArray[np.float32]:
        """Weights (classes,), or of the positives (findings,): frequency to the power −``balance``.

        Scaled so that the mean weight over the known labels is 1. A class without a case weighs 0.
        """
        return np.ones(self.outputs, np.float32)

    def prior_shift(
        self, labels: NDArray[Any], balance: float, sampling: str = "shuffle", loss: str = ""
    ) -> NDArray[np.float64]:
        """(outputs,) what is added to outputs to undo the weights of classes, or the sampling, that they learned with.

        ``labels``: of the training rows. Under weights w a proper loss learns shares in proportion to w·p where p are
        those of the training part, so that the shift is −log w (Elkan 2001, theorem 2; Saerens 2002);
        exact without label smoothing. A class without a case is not shifted; nor is anything under a loss that is not
        proper (:attr:`proper_losses`), whose outputs are no log odds.
        """
        if self.loss_name(loss) not in self.proper_losses:
            return np.zeros(self.outputs)
        return self._proper_shift(labels, balance, sampling)

    def _proper_shift(self, labels: NDArray[Any], balance: float, sampling: str) -> NDArray[np.float64]:
        """The shift under a proper loss."""
        return np.zeros(self.outputs)

    @abstractmethod
    def loss(
        self, weights: NDArray[Any], smoothing: float, device: str = "cpu", *, name: str = "", gamma: float = 2.0,
        heads: Mapping[str, float] | None = None,
    ) -> Loss:  # fmt: skip
        """The loss over a batch; unknown labels are masked, classes weighted, labels smoothed by ``smoothing``.

        ``name``: one of :attr:`losses`, the first by default; ``gamma``: of the focal loss; ``heads``: how much each
        name counts (1 where none is given), where each has an answer of its own. Raises :class:`ArgumentError` for a
        loss or weights of heads that this task does not have.
        """

    def loss_name(self, name: str) -> str:
        """``name``, or the usual loss for a blank one; refuses one that this task does not have."""
        return one_of(name, self.losses, f"the loss of {self.summary}") if name else self.losses[0]

    def finding_weights(self, heads: Mapping[str, float] | None) -> NDArray[np.float32]:
        """(K,) how much each name counts, with a mean of 1; refuses weights where names have no answers of their own."""
        heads = heads or {}
        require(self.multilabel or not heads, f"{self.summary} has one answer, so there are no heads to be weighed",
                given=", ".join(heads), todo="leave finding_weights out")  # fmt: skip
        for name in heads:
            one_of(name, self.names, "the finding of finding_weights")
        weights = np.array([heads.get(name, 1.0) for name in self.names], np.float32)
        require(bool((weights >= 0).all() and weights.any()), "the weights of heads must not be negative, nor all 0",
                given=dict(heads))  # fmt: skip
        return np.asarray(weights / weights.mean(), np.float32)

    @abstractmethod
    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of K linear heads at once: the loss (K, N) and its derivative by the outputs (K, N, C)."""

    @abstractmethod
    def hinge_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The squared hinge of each output against the rest, summed, and its derivative, as :meth:`loss_and_slope`."""

    @abstractmethod
    def aims(self, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What least squares aims at (N, C), ±1 or the number, and the weight of each (N, C), 0 where unknown."""

    def groups(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Groups that have a mean: who is in which (N, G) of 0 and 1, and how outputs contrast them (G, C).

        No group (G = 0) where there are no classes.
        """
        import torch

        return torch.zeros(len(labels), 0), torch.zeros(0, self.outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """A network's outputs (B, K) as what is predicted: probabilities; a quantity as it is."""
        return outputs

    def pooled(self, outputs: Tensor, there: Tensor) -> Tensor:
        """The outputs (B, K) whose probabilities are the mean of those of outputs (B, V, K), over the views that are ``there``
        (B, V); of a quantity their mean. Where there is none: no view says more for one answer than for another.
        """
        share = there / there.sum(dim=1, keepdim=True).clamp(min=1)
        return (outputs * share[..., None]).sum(dim=1)

    @abstractmethod
    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """What chooses a snapshot on tuning data; the larger, the better.

        The mean AUC over classes or findings with both answers present; minus the loss where there is none.
        """

    def answer_score(self, answers: NDArray[np.float64], labels: NDArray[Any]) -> float:
        """The snapshot score of answers (N, K) themselves: probabilities, or the quantity."""
        return self.snapshot_score(self._as_outputs(answers), labels, 1.0)

    def _as_outputs(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs whose :meth:`probabilities` are ``answers``."""
        return np.asarray(np.log(np.clip(answers, LEAST, 1)))

    def label_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        """Mean and deviation by which labels are standardised for a network; (0, 1) where they are not."""
        return 0.0, 1.0

    def scaled(self, labels: NDArray[Any], scale: tuple[float, float]) -> NDArray[Any]:
        """Labels as a network learns them."""
        return labels

    def unscaled(self, values: NDArray[Any], scale: tuple[float, float]) -> NDArray[Any]:
        """What a network says, in the unit of the labels."""
        return values


def judged_rows(known: NDArray[np.bool_], columns: Mapping[str, Any]) -> pd.DataFrame:
    """What :meth:`Task.judged` gives of the known rows of ``columns`` (N,)."""
    return pd.DataFrame({"row": np.arange(len(known)), **columns})[known]


def squared_hinge(outputs: Tensor, aims: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """``max(0, 1 − aim · output)²`` over (…, C), weighted and summed, and its derivative."""
    short = (1 - aims * outputs).clamp(min=0)
    return (short.square() * weights).sum(-1), -2 * aims * short * weights


def mean_auc(asked: list[tuple[NDArray[np.bool_], NDArray[Any]]]) -> float | None:
    """The mean AUC of (positive, score) pairs with both answers; None where there is none."""
    areas = [_auc(positive, score) for positive, score in asked if 0 < positive.sum() < len(positive)]
    return float(np.mean(areas)) if areas else None


def _auc(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """Mann and Whitney's statistic with midranks; ``scipy.stats.rankdata`` without its import of 1.5 s."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    midrank = np.cumsum(counts) - (counts - 1) / 2
    n = int(positive.sum())
    return float((midrank[place][positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))
