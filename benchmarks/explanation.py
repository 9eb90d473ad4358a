"""Maps of where a network looked, against other implementations and against the truth: `python benchmarks/explanation.py`.

``speed`` (the default): Grad-CAM of ours, of the grad-cam package and of captum on the same network and images, in the same
run, the quickest of some repeats in turn. Bars: 3.5 times as fast as the grad-cam package, 1.2 times as captum, and the same
maps to 1e-4 of their largest value.

``phantoms``: a network trained on chest phantoms whose opacity is planted at a known place, and the same with random weights.
The pointing game: is the largest value of the map within the opacity? Bars: at least 80 % trained, and at most chance + 10 %
with random weights; chance is the opacity's share of the image.

``masks --run RUN --lesions FOLDER``: AUPRC of maps of a run's model against masks of lesions (``masks/<case>.png``), with the same of a random map
and of a spot in the centre, over the cases of the run that have one; and of how many the model has seen in training.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from torch.nn import functional

import overread as ov
from overread.cases.sources.read_cases import read_images
from overread.explanation.attribute import attributions
from overread.explanation.checks.faithfulness import centred, points_at, precision_recall_area, random_maps
from overread.explanation.explain import explanations, index_of
from overread.images.preprocess import load
from overread.learning.device import layout, seeded
from overread.learning.model import Model, make_network
from overread.learning.predict import load_model
from overread.networks.backbones import BACKBONES, build, layer
from overread.synthetic.cohort import draw_cohort

BARS = {"grad-cam": 3.5, "captum": 1.2}


def quickest(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of processor time, the least of some repeats that take turns: other work cannot make it smaller."""
    found = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - start)
    return found


def speed(backbones: list[str], batch: int, repeats: int) -> bool:
    torch.set_num_threads(1)
    good = [compared(name, batch, repeats) for name in backbones]
    return all(good)


def compared(name: str, batch: int, repeats: int) -> bool:
    """Each as its users meet it: ours with the layout that ``explain`` gives a network, the others with the default one."""
    from captum.attr import LayerGradCam

    with seeded(0, 0, 0, "bench"):
        network = build(name, outputs=7).eval()
        torch.nn.init.normal_(network.head.weight, std=0.5)
    at = BACKBONES[name].default_tap.removeprefix("trunk.")
    x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    target, tap = torch.arange(batch) % 7, layer(network, at)
    ours, own = layout(copy.deepcopy(network), "cpu"), x.contiguous(memory_format=torch.channels_last)
    captum = LayerGradCam(network, tap)

    def by_captum() -> torch.Tensor:
        found = captum.attribute(x, target=target, relu_attributions=True)
        return functional.interpolate(found, (224, 224), mode="bilinear", align_corners=False)[:, 0].detach()

    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: attributions(ours, own, target, "grad-cam", at),
        "captum": by_captum,
    }
    if importlib.util.find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        package, targets = (
            GradCAM(model=network, target_layers=[tap]),
            [ClassifierOutputTarget(int(each)) for each in target],
        )
        calls["grad-cam"] = lambda: package(input_tensor=x, targets=targets)
    else:
        print("the grad-cam package is not installed: pip install grad-cam")
    maps = {key: scaled(np.asarray(call())) for key, call in calls.items()}
    found, good = quickest(calls, repeats), True
    for other in (key for key in calls if key != "ours"):
        gain, off = found[other] / found["ours"], float(np.abs(maps["ours"] - maps[other]).max())
        good &= gain >= BARS[other] and off < 1e-4
        print(f"{name:16} {other:9} {found[other]:7.3f} s, ours {found['ours']:7.3f} s: {gain:5.2f} times (bar {BARS[other]}), maps differ by {off:.1e}")  # fmt: skip
    return good


def scaled(maps: np.ndarray) -> np.ndarray:
    """Each map from 0 to 1, as the package gives them."""
    flat = maps.reshape(len(maps), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    return ((flat - low) / np.maximum(high - low, 1e-7)).reshape(maps.shape)


def phantoms(patients: int, epochs: int) -> bool:
    """The pointing game on planted opacities, trained and with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        table = draw_cohort(
            folder, patients=patients, images_per_patient=(1, 1), size=64, seed=3, kind="chest", prevalence=0.5
        )
        cases = ov.read_cases(
            table,
            image="image",
            label="diagnosis",
            patient="patient",
            case="case",
            positive=("malignant",),
            names="keep",
        )
        split = ov.split(cases, test=0.25, tuning=0.15, seed=3)
        recipe = ov.Recipe(method="scratch", backbone="resnet_tiny", image_size=64, epochs=epochs, seed=3, views=1)
        model = ov.train(cases, split, recipe)
        test = cases.only(split, "test")
        ill = test.take((test.table["label"] == "malignant").to_numpy())
        with seeded(3, 0, 0, "random weights"):
            blank = Model(make_network(model.about).eval(), model.about)
        auc = ov.evaluate(ov.predict(model, test, part="test"))["auc"]
        print(f"trained on {len(cases.only(split, 'train'))} phantoms, AUC {auc}")
        return play("trained", model, ill, Path(folder) / "masks", least=0.8) & play(
            "random weights", blank, ill, Path(folder) / "masks"
        )


def play(name: str, model: Model, cases: ov.Cases, folder: Path, *, least: float | None = None) -> bool:
    """The share of maps whose largest value lies in the planted opacity, and what their verdicts say."""
    hits, chance, words = [], [], []
    for found in explanations(model, cases, targets="malignant", methods=("grad-cam",), checks=True):
        mask = cv2.imread(str(folder / f"{found.case}.png"), cv2.IMREAD_GRAYSCALE) > 127
        hits.append(0.0 if found.nothing else points_at(found.map.astype(float), mask))
        chance.append(mask.mean())
        words.append(found.verdict)
    rate, luck = float(np.mean(hits)), float(np.mean(chance))
    passed = sum(each.startswith("This map passed") for each in words)
    bar = f"bar: at least {least:.0%}" if least else f"bar: at most {luck + 0.1:.0%}"
    print(f"{name}: {rate:.1%} of {len(hits)} maps hit ({bar}; chance {luck:.1%}); the verdict lets {passed} pass")
    return rate >= least if least else rate <= luck + 0.1


def masks(run: Path, folder: Path, methods: list[str], images: Path) -> bool:
    """AUPRC against masks with both baselines, mean and interval by patient."""
    model = load_model(run)
    cases = read_images(images, model.target, names="keep")
    stems = [Path(each).stem for each in cases.table["image"]]
    known = ov.Cases.load(run / "cases.csv")
    label = dict(zip(known.table["case"], known.table["label"], strict=True))
    patient = dict(zip(known.table["case"], known.table["patient"], strict=True))
    cases = replace(cases, table=cases.table.assign(case=stems, patient=[patient.get(each, each) for each in stems]))
    seen = model.saw(cases.table["patient"].tolist())
    targets = {case: label[case] for case in stems if case in label}
    for name in targets.values():
        index_of(model.target, name)
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in methods}
    for found in explanations(model, cases, targets=targets, methods=methods, checks=False):
        mask = load(folder / f"{found.case}.png", model.about.preprocess)[..., 0] > 127
        blind = [centred(mask.shape, 2), random_maps(mask.shape, 1, 0, 2)[0]]
        area = [precision_recall_area(each, mask) for each in (found.map.astype(float), *blind)]
        rows[found.method].append((*area, 0.0 if found.nothing else points_at(found.map.astype(float), mask)))
    print(
        f"{len(cases)} lesions, of which the model has seen the patients of {int(seen.sum())}; target: the true class"
    )
    for name, each in rows.items():
        values = np.array(each)
        spread = values.std(axis=0, ddof=1) / np.sqrt(len(values)) * 1.96
        mean = values.mean(axis=0)
        print(f"{name:22} AUPRC {mean[0]:.3f} ± {spread[0]:.3f}; a spot in the centre {mean[1]:.3f}, a random map {mean[2]:.3f}; pointing game {mean[3]:.1%}")  # fmt: skip
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "phantoms", "masks"])
    parser.add_argument(
        "--backbone", nargs="+", default=["resnet18", "resnet50", "mobilenet_v2", "squeezenet1_0", "densenet121"]
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--run", type=Path, help="of masks: the run")
    parser.add_argument("--lesions", type=Path, help="of masks: a folder with images/ and masks/")
    parser.add_argument("--method", nargs="+", default=["grad-cam", "gradient", "smoothgrad"])
    asked = parser.parse_args()
    good = {"speed": lambda: speed(asked.backbone, asked.batch, asked.repeats), "phantoms": lambda: phantoms(asked.patients, asked.epochs),
            "masks": lambda: masks(asked.run, asked.lesions / "masks", asked.method, asked.lesions / "images")}[asked.what]()  # fmt: skip
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
