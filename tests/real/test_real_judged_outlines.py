"""Otsu and connected components on nuclei of the Data Science Bowl 2018, judged; StarDist's own numbers beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment
from skimage.filters import threshold_otsu
from skimage.io import imread
from skimage.measure import label
from sklearn.metrics.cluster import contingency_matrix

from overread.evaluation.instances.compare_outlines import compare_outlines
from overread.evaluation.instances.evaluate_outlines import IOUS, evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import write_labels

#: What ``stardist.matching.matching_dataset`` 0.9.2 says of the same label images (objects of more than 20 pixels): AP at
#: .5, its mean over .5–.95, F1 and PQ at .5. It counts an IoU of exactly the threshold as a hit, which ours must exceed.
STARDIST = {"ap@0.5": 0.627417, "ap": 0.412460, "f1@0.5": 0.771058, "pq": 0.647505}


@pytest.fixture(scope="module")
def nuclei(shared, tmp_path_factory):
    """Truth and Otsu's objects of every fourth fluorescence image, and the table of them; another with the holes of three."""
    home = shared / "data/dsb2018"
    if not (home / "index.csv").exists():
        pytest.skip("no data/dsb2018 in the shared folder")
    table = pd.read_csv(home / "index.csv")
    table = table[table["microscope"] == "fluorescence"].iloc[::4]
    folder, pairs, rows = tmp_path_factory.mktemp("nuclei"), [], []
    for number, row in enumerate(table.itertuples()):
        grey = imread(home / row.image)[..., :3].mean(axis=-1)
        drawn = label(grey > threshold_otsu(grey))
        small = np.flatnonzero(np.bincount(drawn.ravel()) <= 20)
        drawn = np.where(np.isin(drawn, small), 0, drawn)
        pairs.append((imread(home / row.mask).astype(np.int64), drawn))
        for side, labels in zip(("truth", "otsu"), pairs[-1]):
            write_labels(folder / side / f"{number}.png", labels)
        rows.append({"case": str(number), "patient": str(number), "split": "test", "source": "fluorescence",
                     "predicted": f"otsu/{number}.png", "truth": f"truth/{number}.png"})  # fmt: skip
    return pairs, PredictedOutlines(pd.DataFrame(rows), str(folder))


def dense(pairs, exceed):
    """TP, true and predicted objects at each IoU by one dense assignment an image."""
    found = np.zeros((len(IOUS), 3))
    for truth, drawn in pairs:
        table = contingency_matrix(truth.ravel(), drawn.ravel()).astype(float)
        union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
        iou = (table / union)[np.ix_(np.unique(truth) > 0, np.unique(drawn) > 0)]
        for place, threshold in enumerate(IOUS):
            good = iou > threshold + 1e-12 if exceed else iou >= threshold - 1e-12
            hits = good[linear_sum_assignment(-(good + iou / (2 * min(iou.shape))))].sum()
            found[place] += hits, *iou.shape
    return found


def test_numbers_are_those_of_a_dense_assignment_and_of_stardist(nuclei) -> None:
    pairs, table = nuclei
    found = evaluate_outlines(table, resamples=200)
    hits, true, drawn = dense(pairs, exceed=True).T
    assert found.curves[""].ap == pytest.approx(tuple(hits / (true + drawn - hits)))
    also, _, _ = dense(pairs, exceed=False).T
    assert also[0] / (true + drawn - also)[0] == pytest.approx(STARDIST["ap@0.5"], abs=1e-6)
    assert np.mean(also / (true + drawn - also)) == pytest.approx(STARDIST["ap"], abs=1e-6)
    for name, value in STARDIST.items():
        assert found[name].value == pytest.approx(value, abs=0.002), name
    assert found["merges"].value > 10, "touching nuclei are one component"
    assert found["splits"].value < 1
    assert found["count error"].high < 0


def test_what_cuts_touching_nuclei_apart_merges_less_and_splits_more(nuclei, tmp_path) -> None:
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    pairs, table = nuclei
    folder = tmp_path
    for number, (truth, drawn) in enumerate(pairs):
        depth = gaussian_filter(distance_transform_edt(drawn > 0), 1.5)
        seeds = np.zeros(drawn.shape, int)
        places = peak_local_max(depth, min_distance=6, labels=(drawn > 0).astype(int))
        seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
        write_labels(folder / "water" / f"{number}.png", watershed(-depth, seeds, mask=drawn > 0))
        write_labels(folder / "truth" / f"{number}.png", truth)
    other = PredictedOutlines(table.table.assign(predicted=[f"water/{n}.png" for n in range(len(pairs))]), str(folder))
    found = compare_outlines(other, table, names=("watershed", "components"), resamples=400)
    assert found["merges"].difference.high < 0
    assert found["splits"].difference.low > 0
    assert found["dice"].difference.value == pytest.approx(0, abs=0.01), "the foreground is the same"
