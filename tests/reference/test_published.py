"""Numbers that stand in print."""

import numpy as np
import pytest
import torch

from overread.networks.backbones import build
from overread.stats.agreement.pairs import cohen_kappa, intraclass_correlation
from overread.stats.discrimination.roc import auc
from overread.stats.proportions import clopper_pearson, proportion

# R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven methods",
# Statistics in Medicine 17 (1998) 857–872, table I: methods 3 (Wilson) and 5 (Clopper–Pearson).
NEWCOMBE_1998 = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "wilson", "exact"), NEWCOMBE_1998)
def test_proportions_of_newcombe_1998(k, n, wilson, exact):
    found = proportion([1] * k + [0] * (n - k))
    assert (found.low, found.high) == pytest.approx(wilson, abs=5e-5)
    assert clopper_pearson(k, n) == pytest.approx(exact, abs=5e-5)


def test_computed_tomography_ratings_of_hanley_and_mcneil_1982():
    """J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143 (1982) 29–36, table I: 109 computed tomograms rated 1–5, area .893, standard error .032."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    truth = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    rating = np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (normal, abnormal)])
    found = auc(truth, rating)
    assert found.value == pytest.approx(0.893, abs=5e-4)
    logit = lambda p: np.log(p / (1 - p))
    error = (logit(found.high) - logit(found.low)) / (2 * 1.959964) * found.value * (1 - found.value)
    assert error == pytest.approx(0.032, abs=2e-3)


# P. E. Shrout, J. L. Fleiss, "Intraclass correlations: uses in assessing rater reliability", Psychological Bulletin 86
# (1979) 420–428, table 2: six targets, four judges.
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_kappa_is_as_published():
    """Fleiss, Levin & Paik 2003, Table 18.1 and page 604: kappa .68, standard error .087."""
    cells = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    first, second = (np.repeat(side.ravel(), cells.ravel()) for side in np.indices((3, 3)))
    found = cohen_kappa(first, second, method="plain")
    assert found.value == pytest.approx(0.676, abs=5e-4)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.087, abs=1e-3)


def test_intraclass_correlations_are_as_published():
    """Shrout & Fleiss 1979, Table 4: ICC(2,1) .29 and ICC(3,1) .71; R's psych 2.3: ICC3 .34 to .95."""
    agreement = intraclass_correlation(SHROUT)
    consistency = intraclass_correlation(SHROUT, kind="consistency")
    assert agreement.value == pytest.approx(0.29, abs=0.005)
    assert consistency.value == pytest.approx(0.71, abs=0.005)
    assert (consistency.low, consistency.high) == pytest.approx((0.34, 0.95), abs=0.005)


#: Weights in millions, with the classifier of 1,000 classes, as the papers print them.
PUBLISHED_SIZES = {
    "alexnet": (60, 2),  # Krizhevsky, Sutskever & Hinton 2012, abstract: 60 million (of two towers)
    "vgg16": (138, 0.5),  # Simonyan & Zisserman 2015, table 2, configuration D
    "vgg19": (144, 0.5),  # the same, configuration E
    "mobilenet_v2": (3.4, 0.15),  # Sandler et al. 2018, table 4
    "mobilenet_v3_large": (5.4, 0.15),  # Howard et al. 2019, table 3
    "efficientnet_b0": (5.3, 0.05),  # Tan & Le 2019, table 2
    "deit_tiny_patch16_224": (5, 0.8),  # Touvron et al. 2021, table 1
    "swin_tiny_patch4_window7_224": (29, 1),  # Liu et al. 2021, table 1
}


@pytest.mark.parametrize(("name", "millions", "off"), [(n, *size) for n, size in PUBLISHED_SIZES.items()])
def test_networks_have_the_size_that_their_papers_print(name, millions, off):
    with torch.device("meta"):
        network = build(name, outputs=1000)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=off)


def test_lenet5_has_the_size_of_lecun_1998():
    """Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), section II.B:
    layer C5 has 48,120 trainable connections, F6 10,164."""
    layers = dict(build("lenet5", outputs=10, channels=1).named_modules())
    sizes = {name.rpartition(".")[2]: sum(p.numel() for p in layer.parameters()) for name, layer in layers.items()}
    assert (sizes["c5"], sizes["f6"]) == (48_120, 10_164)
