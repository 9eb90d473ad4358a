"""A finished run against fastai's defaults: the same split, the same initial weights, the same wall-clock time.

    python benchmarks/fastai_defaults.py runs/skin --weights weights/ [--minutes 30]

fastai trains as its documentation does: 224 pixels, `aug_transforms()`, a batch of 64, `fine_tune`, with as many epochs
as fit into the time; its prediction is the largest probability. It wants the virtual environment of `make bench-peers`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.vision.all import (
    CategoryBlock,
    ColReader,
    ColSplitter,
    DataBlock,
    ImageBlock,
    Resize,
    aug_transforms,
    default_split,
    imagenet_stats,
    set_seed,
    vision_learner,
)
from fastai.vision.learner import model_meta
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn

from overread.cases.cases import Cases, paths
from overread.cases.split import Split
from overread.evaluation.evaluate import Evaluation
from overread.learning.predict import load_model
from overread.networks import backbones, weights


class Body(nn.Module):
    """The trunk of one of our networks, which fastai puts its own head on."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.network = backbones.build(name, outputs=2)
        weights.load_into(self.network, weights.get(name, folder=folder, network=False))
        self.network.head = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last maps (B, C, h, w)."""
        return self.network.maps(x)


def learner_of(run: Path, name: str, folder: Path, seed: int) -> Any:
    """A learner with fastai's defaults on the training and tuning part of the run."""
    cases, split = Cases.load(run / "cases.csv"), Split.load(run / "split.csv")
    table = cases.table.assign(path=paths(cases), part="")
    for part in ("train", "tuning", "test"):
        table.iloc[split.rows(cases, part), table.columns.get_loc("part")] = part
    table["valid"] = table["part"] == "tuning"
    block = DataBlock((ImageBlock, CategoryBlock(vocab=list(cases.target.names))), get_x=ColReader("path"), get_y=ColReader("label"),
                      splitter=ColSplitter("valid"), item_tfms=Resize(224), batch_tfms=aug_transforms())  # fmt: skip
    set_seed(seed, reproducible=True)
    loaders = block.dataloaders(table[table["part"].isin(["train", "tuning"])], bs=64)

    def architecture(**_: object) -> nn.Module:
        return nn.Sequential(Body(name, folder))

    model_meta[architecture] = {"cut": lambda model: model, "split": default_split, "stats": imagenet_stats}
    learner = vision_learner(loaders, architecture)
    learner.test_table = table[table["part"] == "test"]
    return learner


def epochs_within(learner: Any, seconds: float) -> int:
    """How many epochs of all layers fit, by eight steps of each kind; judging takes a third of a step."""
    learner.freeze()
    taken = []
    for unfrozen in (False, True):
        if unfrozen:
            learner.unfreeze()
        learner.create_opt()
        start = time.monotonic()
        for number, (x, y) in enumerate(learner.dls.train):
            if number == 1:
                start = time.monotonic()  # the first waits for its workers
            loss = nn.functional.cross_entropy(learner.model(x), y)
            loss.backward()
            if number == 8:
                break
        learner.model.zero_grad()
        taken.append((time.monotonic() - start) / 8)
    steps, judged = len(learner.dls.train), len(learner.dls.valid) * taken[1] / 3
    return max(1, int((seconds - taken[0] * steps - judged) / (taken[1] * steps + judged)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="", help="default: that of the run")
    parser.add_argument("--minutes", type=float, default=0.0, help="default: as long as the run took")
    options = parser.parse_args()
    for run in options.runs:
        record = json.loads((run / "record.json").read_text())
        seed, seconds = int(record.get("seed", 0)), options.minutes * 60 or float(record["seconds"])
        ours, start = Evaluation.load(run / "evaluation"), time.monotonic()
        backbone = options.backbone or load_model(run).about.backbone.name
        learner = learner_of(run, backbone, options.weights, seed)
        test = learner.test_table
        epochs = epochs_within(learner, 0.95 * seconds - (time.monotonic() - start))
        learner = learner_of(run, backbone, options.weights, seed)
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(epochs)
            chances = learner.get_preds(dl=learner.dls.test_dl(test))[0].numpy()
        taken = time.monotonic() - start
        names = list(learner.dls.vocab)
        truth = test["label"].map(names.index).to_numpy()
        area = np.mean([roc_auc_score(truth == k, chances[:, k]) for k in range(len(names))])
        balanced = balanced_accuracy_score(truth, chances.argmax(1))
        print(
            f"{run.name}, {backbone}: fastai {epochs} epochs in {taken:.0f} s, ours {record['seconds']} s; {len(test)} test images"
        )
        print(f"  macro AUC                     fastai {area:.3f}   ours {ours['macro auc', ''].value:.3f}")
        print(
            f"  balanced accuracy by argmax   fastai {balanced:.3f}   ours {ours['top balanced accuracy', ''].value:.3f}"
        )
        print(f"  balanced accuracy by our rule                ours {ours['balanced accuracy', ''].value:.3f}")


if __name__ == "__main__":
    main()
