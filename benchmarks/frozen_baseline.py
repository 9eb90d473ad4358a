"""A finished run against the classical baseline on the same split: class-weighted logistic regression (scikit-learn,
penalty by cross-validation) on the pooled frozen features of the same pretrained network at 224 pixels.

    python benchmarks/frozen_baseline.py runs/skin --weights weights/
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from overread.cases.cases import Cases, paths
from overread.cases.split import Split
from overread.core.files import cache_folder
from overread.evaluation.evaluate import Evaluation
from overread.images.preprocess import Preprocess
from overread.images.store import pack
from overread.learning.linear_probe import extract
from overread.learning.predict import load_model
from overread.networks import backbones, weights


def features_of(cases: Cases, name: str, folder: Path) -> np.ndarray:
    """(N, F) pooled features of all images."""
    preprocess = Preprocess((224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    store = pack(paths(cases), preprocess, cache_folder())
    network = backbones.build(name, outputs=2)
    report = weights.load_into(network, weights.get(name, folder=folder, network=False))
    key = [name, report.sha256, store.digests]
    return extract(network, store.images, preprocess, key=key, cache=cache_folder()).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    print(f"{'run':<14}{'network':<16}{'macro AUC':>10}{'baseline':>10}{'bal. acc.':>12}{'baseline':>10}")
    for run in options.runs:
        cases, split = Cases.load(run / "cases.csv"), Split.load(run / "split.csv")
        name = load_model(run).about.backbone.name
        x, y = features_of(cases, name, options.weights), cases.labels
        train, test = split.rows(cases, "train"), split.rows(cases, "test")
        folds = list(GroupKFold(3).split(train, groups=cases.table["patient"].iloc[train]))
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=[1e-3, 1e-2, 1e-1], cv=folds, class_weight="balanced", max_iter=300, scoring="neg_log_loss"),
        ).fit(x[train], y[train])  # fmt: skip
        scores = model.predict_proba(x[test])
        area = np.mean([roc_auc_score(y[test] == k, scores[:, k]) for k in range(scores.shape[1])])
        balanced = balanced_accuracy_score(y[test], scores.argmax(1))
        ours = Evaluation.load(run / "evaluation")
        print(f"{run.name:<14}{name:<16}{ours['macro auc', ''].value:>10.3f}{area:>10.3f}"
              f"{ours['balanced accuracy', ''].value:>12.3f}{balanced:>10.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
