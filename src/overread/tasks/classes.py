"""One label a case, out of two or more classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.phrases import count
from overread.tasks.costs import class_costs
from overread.tasks.task import UNSAID, Loss, Task, judged_rows, mean_auc, squared_hinge

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classes(Task):
    """Exactly one class of several: softmax, cross-entropy."""

    exclusive: ClassVar[bool] = True
    unknown: ClassVar[Any] = ""
    plural: ClassVar[str] = "classes"
    metrics_of: ClassVar[tuple[str, ...]] = ("classes",)
    losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "focal", "mse", "hinge", "cumulative")
    proper_losses: ClassVar[tuple[str, ...]] = ("cross-entropy", "mse", "cumulative")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """``label``."""
        return ("label",)

    def read_labels(self, table: pd.DataFrame) -> NDArray[Any]:
        """int64 (N,), the index in ``names``, −1 where unknown."""
        return pd.Index(self.names).get_indexer(pd.Index(table["label"])).astype(np.int64)

    def known(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) where the class is known."""
        return np.asarray(labels >= 0)

    def distinct(self, labels: NDArray[Any]) -> int:
        """How many classes there are."""
        return len(np.unique(labels[labels >= 0]))

    def strata(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The class."""
        return labels

    def presence(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """(N, classes) one-hot; no True where unknown."""
        return labels[:, None] == np.arange(len(self.names))

    def yes_or_no(self, labels: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Each class against the others; of two the positive one."""
        asked = self.positive if self.binary else self.names
        return np.stack([(labels == self.names.index(name)).astype(np.float64) for name in asked], 1), tuple(asked)

    def count(self, labels: NDArray[Any], patient: pd.Series) -> dict[str, Any]:
        """By class."""
        return {"classes": {name: {"images": int((labels == i).sum()), "patients": int(patient[labels == i].nunique())}
                            for i, name in enumerate(self.names)}}  # fmt: skip

    def fewest_patients(self, labels: NDArray[Any], patient: NDArray[Any]) -> int:
        """Patients of the rarest class."""
        return min(len(np.unique(patient[labels == k])) for k in range(len(self.names)))

    def holds(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """The class."""
        return np.where(self.known(labels)[:, None], self.presence(labels), np.nan)

    def label_words(self, labels: NDArray[Any]) -> list[str]:
        """The class."""
        return [self.names[int(label)] if label >= 0 else "" for label in labels]

    def answer_words(self, scores: NDArray[Any]) -> list[str]:
        """The most probable class."""
        return [self.names[place] for place in scores.argmax(axis=1)]

    @property
    def most_probable(self) -> str:
        """``the most probable class``."""
        return "the most probable class"

    def order_words(self, names: Sequence[str]) -> str:
        """The least certain first: no class is worse than another."""
        return "No class counts as disease here, so the least certain stand first (--positive says in training which one does)."

    def title(self, names: Sequence[str], called: Callable[[str], str]) -> str:
        """``Telling melanoma from naevus``; without a class that counts as disease how many are told apart."""
        if self.positive:
            rest = [name for name in self.names if name not in self.positive]
            others = called("+".join(rest)) if 1 <= len(rest) <= 4 else "the rest"
            return f"Telling {called('+'.join(self.positive))} from {others}"
        return (
            f"Telling {count(len(names), 'class', 'classes')} apart on images" if names else "Study of medical images"
        )

    def alternatives(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1, K) the classes."""
        return scores[None]

    def judged(
        self, truth: NDArray[Any], scores: NDArray[Any], called: NDArray[np.int64] | None = None
    ) -> pd.DataFrame:
        """A row a case, by the class that it is called."""
        said, names = scores.argmax(axis=1) if called is None else called, np.array(self.names, dtype=object)
        chance = np.take_along_axis(scores, said[:, None], axis=1)[:, 0]
        return judged_rows(truth >= 0, {"truth": names[truth], "predicted": names[said], "probability": chance, "surprise": chance, "correct": said == truth})  # fmt: skip

    def class_weights(self, labels: NDArray[Any], balance: float) -> NDArray[np.float32]:
        """(classes,)."""
        counts = np.bincount(labels[labels >= 0], minlength=len(self.names)).astype(np.float64)
        weights = np.where(counts > 0, np.maximum(counts, 1) ** -balance, 0.0)
        return np.asarray(weights * counts.sum() / max((weights * counts).sum(), 1e-12), np.float32)

    def _proper_shift(self, labels: NDArray[Any], balance: float, sampling: str) -> NDArray[np.float64]:
        """(classes,) −log of the weights; drawing classes alike is to weigh them so that they count alike."""
        weights = self.class_weights(labels, 1.0 if sampling == "balanced" else balance).astype(np.float64)
        return -np.log(np.where(weights > 0, weights, 1.0))

    def loss(
        self, weights: NDArray[Any], smoothing: float, device: str = "cpu", *, name: str = "", gamma: float = 2.0,
        heads: Mapping[str, float] | None = None,
    ) -> Loss:  # fmt: skip
        """Cross-entropy, or another of :attr:`losses`, with class weights and label smoothing (Szegedy 2016, section 7)."""
        import torch
        from torch.nn.functional import cross_entropy, one_hot

        self.finding_weights(heads)
        name, scale = self.loss_name(name), torch.as_tensor(weights, device=device)

        def each_row(outputs: Tensor, labels: Tensor) -> Tensor:
            if name == "cross-entropy":
                return cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
            count = outputs.shape[1]
            aim = one_hot(labels, count).to(outputs.dtype) * (1 - smoothing) + smoothing / count
            return (aim * class_costs(name, outputs, gamma)).sum(1)

        def loss(outputs: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
            each = each_row(outputs, labels) * scale[labels]
            # the weights average 1 over the training set, not over each batch
            return (each if shares is None else each * shares).mean()

        return loss

    def loss_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy."""
        from torch.nn.functional import one_hot

        row = weights[labels]
        log = outputs.log_softmax(-1)
        each = -log.gather(-1, labels.expand(len(outputs), -1)[..., None])[..., 0] * row
        hot = one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
        return each, (log.exp() - hot) * row[:, None]

    def hinge_and_slope(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each class against the rest, weighted by the class of the row."""
        return squared_hinge(outputs, *self.aims(labels, weights))

    def aims(self, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """1 for the class, −1 for the others; every output weighted by the class of the row."""
        from torch.nn.functional import one_hot

        hot = one_hot(labels, self.outputs).to(weights.dtype)
        return 2 * hot - 1, weights[labels][:, None].expand_as(hot)

    def groups(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The classes, an output each."""
        import torch
        from torch.nn.functional import one_hot

        return one_hot(labels, self.outputs).float(), torch.eye(self.outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Softmax over the classes."""
        return outputs.softmax(dim=1)

    def pooled(self, outputs: Tensor, there: Tensor) -> Tensor:
        """The logarithm of the mean softmax over the views that are there."""
        told = outputs.float().log_softmax(dim=2).masked_fill(~there[..., None], UNSAID)
        return told.logsumexp(dim=1) - there.sum(dim=1, keepdim=True).clamp(min=1).log()

    def snapshot_score(self, outputs: NDArray[Any], labels: NDArray[Any], loss: float) -> float:
        """The mean AUC of the classes, each against the others."""
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        auc = mean_auc([(labels == k, shares[:, k]) for k in range(outputs.shape[1])])
        return -loss if auc is None else auc


@dataclass(frozen=True)
class Binary(Classes):
    """One class of two: one question, asked of the positive class."""

    binary: ClassVar[bool] = True
    subjects: ClassVar[tuple[str, ...]] = ("question",)
    metrics_of: ClassVar[tuple[str, ...]] = ("binary",)

    @property
    def usual_positive(self) -> str:
        """The class that its name tells to be the disease."""
        return disease_of(self.names)

    @property
    def pointed(self) -> tuple[tuple[str, ...], ...]:
        """The positive class."""
        return (self.positive,)

    def asked(self, pointed: Sequence[tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], bool], ...]:
        """One question; blank names: the positive class."""
        require(len(pointed) < 2, "a binary label has one operating point", given=len(pointed))
        return ((next(iter(pointed), ()), True),)

    @property
    def summary(self) -> str:
        """``binary label``."""
        return "binary label"

    @property
    def question(self) -> str:
        """``two classes``."""
        return "two classes"

    @property
    def answer(self) -> str:
        """Of two classes, in a word."""
        return "a probability for each of two classes"


# -- which of two classes is the disease, told from their names ---------------------------------------------------


@checked
def disease_of(names: Sequence[str]) -> str:
    """Of two classes the one that counts as disease, blank where their names leave a doubt.

    A name is healthy where it says so in a word (*normal*, *benigno*, *gesund*), or denies something (*no tumour*,
    *non-COVID*, *uninfected*, *sans fracture*, *IDC−*). One of the two must be healthy and the other not: *abnormal*
    and *not benign* are not. A doubt is no answer: *M* and *F*, *non-small cell cancer* and *small cell cancer*, *1*
    and *2*.

    >>> disease_of(["COVID", "non-COVID"]), disease_of(["male", "female"])
    ('COVID', '')
    """
    if len(names) != 2:
        return ""
    first, second = map(_plain, names)
    for pair, ill in _PAIRS.items():
        if {first, second} == set(pair.split()):
            return names[(first, second).index(ill)]
    healthy = _is_healthy(first, second), _is_healthy(second, first)
    return "" if healthy[0] == healthy[1] else names[healthy.index(False)]


@checked
def says_healthy(name: str) -> bool:
    """Whether a name says of itself that nothing was found: *normal*, *No finding*, *sin hallazgos*.

    >>> says_healthy("No Finding"), says_healthy("nodule")
    (True, False)
    """
    return _is_healthy(_plain(name), "")


#: Short names that mean something only beside each other, and which of them is the disease.
_PAIRS = {"0 1": "1", "-1 1": "1", "- +": "+", "b m": "m", "n p": "p", "n y": "y", "n t": "t", "n a": "a", "f t": "t"}


def _words(name: str) -> list[str]:
    return re.findall(r"\w+", name)


# The words of English, German, French, Spanish, Italian, Portuguese and Dutch, without accents, most without endings.
_WELL = "normal normaal healthy benign benin negativ negatif negatief neg absent ausent assent afwezig gesund gutartig sain san saudavel saudavei gezond goedaardig unremarkable"  # fmt: skip
_CONTROL = "control controll kontroll temoin"
_ILL = "abnormal anormal anomal malignant malign malin positiv positif positief pos present presente aanwezig vorhanden yes si sim ja oui diseased sick infected affected involved injured damaged ruptured fractured parasitized parasitised pathologic pathological krank auffallig bosartig malade enferm malat doent ziek kwaadaardig afwijkend infiziert cancerous"  # fmt: skip
_DISEASE = "disease tumor tumour tumeur cancer carcinoma lymphoma neoplasm malignancy lesion finding findings fracture infection befund pneumonia pathology abnormality anomaly defect"  # fmt: skip
_NO = frozenset(_words("no non not none without nicht kein keine ohne sans aucun aucune sin ningun ninguna senza nessun nessuna sem nenhum nenhuma nao niet geen zonder"))  # fmt: skip
_NO_ALONE = frozenset(_words("no non none not nein nee nao aucun nessuno ninguno nenhum geen false falsch faux falso"))
#: Denied, they say nothing of a disease: of the image, the answer or a treatment, or a kind of disease beside another.
_NEITHER = frozenset(_words("known sure clear otherwise specified specific applicable assessed done available evaluable determined classified classifiable label labelled labeled annotated image data consensus contrast enhanced diagnostic visible usable gradable readable interpretable adequate satisfactory responder response viable stable perfused union treated vaccinated resectable resected differentiated displaced smoker mass small hodgkin seminoma"))  # fmt: skip
_ENDING = r"(?:e[rsnm]?|s|[ao]s?|i|te)?"
_IS_WELL, _IS_ILL, _IS_DISEASE = (
    re.compile(f"(?:{'|'.join(words.split())}){_ENDING}")
    for words in (f"{_WELL} {_CONTROL}", _ILL, f"{_ILL} {_DISEASE}")
)


def _plain(name: str) -> str:
    """Lower case without accents, one kind of minus sign, words apart (``NoFinding`` is two)."""
    text = "".join(
        "-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c
        for c in unicodedata.normalize("NFKC", name).replace("_", " ")
    )
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|\b[wW]/[oO]\b", lambda found: "without" if found[0] else " ", text)
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c)).strip()


def _is_healthy(name: str, other: str) -> bool:
    """Whether ``name`` says of itself that it is the healthy one; ``other`` is what it may deny."""
    words, others = _words(name), _words(other)
    if words in ([word] for word in _NO_ALONE):
        return True
    if re.search(r"\w ?[(\[]?-[)\]]?$", name):  # a minus behind what the other name says too
        return words == others
    for place, word in enumerate(words):
        if (rest := _denied(words, place, others)) is not None:
            return _denies_a_disease(rest, joined=word.startswith("non"))
    if words[-1:] == ["free"] or re.match(r"free (of|from) ", name) or words == ["clear"] or words == ["well"]:
        return True
    if any(re.fullmatch("neg(ati(v|f|ef))?" + _ENDING, word) for word in words):  # not triple-negative cancer
        rest = [word for word in words if not word.startswith("neg")]
        return (
            not rest or rest[0] == "for" or set(rest) <= set(others) or any(word.startswith("pos") for word in others)
        )
    well = any(_IS_WELL.fullmatch(word) for word in words)
    return well and not any(_IS_ILL.fullmatch(word) for word in words)


def _denied(words: list[str], place: int, others: list[str]) -> list[str] | None:
    """What stands behind a denial at ``place``, or is joined to one; None where there is none (``nodule``, ``No 1``)."""
    word, behind = words[place], words[place + 1 :]
    if word in ("pas", "absence") and behind[:1] in (["of"], ["de"], ["d"]):
        return behind[1:] or None
    if word in _NO:
        return behind if behind and not behind[0].isdecimal() else None
    for prefix in ("un", *_NO):
        base = word.removeprefix(prefix)
        if base in (word, ""):
            continue
        if (
            _IS_DISEASE.fullmatch(base)
            or _IS_WELL.fullmatch(base)
            or (base in others and len(base) > 1 and prefix != "un")
        ):
            return [base, *behind]
    return None


def _denies_a_disease(denied: list[str], *, joined: bool) -> bool:
    """Whether to deny this is to be healthy; ``joined``: the denial is of the next word alone (non-small cell cancer)."""
    if _NEITHER & set(denied[:2]) or any(_IS_WELL.fullmatch(word) for word in denied[:2]):
        return False
    return not (joined and any(_IS_DISEASE.fullmatch(word) for word in denied[1:]))
