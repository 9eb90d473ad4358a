"""Maps of where a network looked, against other implementations and against the truth: `python benchmarks/explanation.py`.

``speed`` (the default): Grad-CAM of ours, of the grad-cam package and of captum on the same network and images, in the same
run, the quickest of some repeats in turn. Bars: 3.5 times as fast as the grad-cam package, 1.2 times as captum, and the same
maps to 1e-4 of their largest value.

``phantoms``: a network trained on chest phantoms with a nodule planted in a lung or none, which nothing else tells apart
(``--phantom opacity``: with a soft opacity or none, which looks like other tissue of the chest), and the same with random
weights. The pointing game: is the largest value of the map within what was planted? Bars: at least 80 % trained, and at most
chance + 10 % with random weights; chance is the share of the image that was planted. What the criteria say of it stands below.

Whether maps lie on lesions with masks: `benchmarks/maps_and_masks.py`.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

import overread as ov
from overread.core.files import write_csv
from overread.explanation.attribute import attributions
from overread.explanation.checks.criteria import judge_methods
from overread.explanation.verdict import methods_lines
from overread.learning.device import layout, seeded
from overread.learning.model import Model, make_network
from overread.networks.backbones import BACKBONES, build, layer
from overread.synthetic.phantoms import chest_opacity, draw_chest
from overread.synthetic.picture import write_png
from overread.synthetic.planted_nodule import draw_planted_nodules

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


def speed(backbones: list[str], batch: int, repeats: int, *, same: bool) -> bool:
    torch.set_num_threads(1)
    good = [compared(name, batch, repeats, same=same) for name in backbones]
    return same or all(good)


def compared(name: str, batch: int, repeats: int, *, same: bool) -> bool:
    """Each as its users meet it: ours with the layout that ``explain`` gives a network, the others with the default one;
    with ``same`` all with ours."""
    from captum.attr import LayerGradCam

    with seeded(0, 0, 0, "bench"):
        network = build(name, outputs=7).eval()
        torch.nn.init.normal_(network.head.weight, std=0.5)
    at = BACKBONES[name].default_tap.removeprefix("trunk.")
    x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    target, tap = torch.arange(batch) % 7, layer(network, at)
    ours, own = layout(copy.deepcopy(network), "cpu"), x.contiguous(memory_format=torch.channels_last)
    if same:
        network, x, tap = ours, own, layer(ours, at)
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


def phantoms(kind: str, patients: int, epochs: int, checked: int) -> bool:
    """The pointing game on what was planted, trained and with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        table = (
            draw_planted_nodules(folder, patients=patients, seed=3) if kind == "nodule" else opacities(folder, patients)
        )
        cases = ov.read_cases(
            table, image="image", label="diagnosis", patient="patient", case="case", positive=("nodule",), names="keep", keep=["mask"]
        )  # fmt: skip
        split = ov.split(cases, test=0.25, tuning=0.15, seed=3)
        recipe = ov.Recipe(method="scratch", backbone="cnn_small", image_size=64, epochs=epochs, learning_rate=3e-3, batch_size=16,
                           seed=3, views=1)  # fmt: skip
        model = ov.train(cases, split, recipe)
        test = cases.only(split, "test")
        ill = test.take((test.table["label"] == "nodule").to_numpy())
        with seeded(3, 0, 0, "random weights"):
            blank = Model(make_network(model.about).eval(), model.about)
        auc = ov.evaluate(ov.predict(model, test, part="test"))["auc"]
        print(f"trained on {len(cases.only(split, 'train'))} phantoms, AUC {auc}")
        return play("trained", model, ill, checked, least=0.8) & play("random weights", blank, ill, checked)


def opacities(folder: str, patients: int) -> Path:
    """Chests of which every second has the densest opacity, the others none."""
    rows = []
    for name in ("images", "masks"):
        (Path(folder) / name).mkdir()
    for key in range(patients):
        ill = key % 2 == 1
        write_png(Path(folder) / "images" / f"{key}.png", draw_chest(3, key, 4.5 if ill else -9.0))
        write_png(Path(folder) / "masks" / f"{key}.png", chest_opacity(3, key).astype(np.uint8) * 255)
        rows.append([f"images/{key}.png", f"c{key}", f"P{key:05d}", f"masks/{key}.png" if ill else "", "nodule" if ill else "normal"])  # fmt: skip
    return write_csv(
        Path(folder) / "t.csv", pd.DataFrame(rows, columns=["image", "case", "patient", "mask", "diagnosis"])
    )


def play(name: str, model: Model, cases: ov.Cases, checked: int, *, least: float | None = None) -> bool:
    """The share of maps whose largest value lies in what was planted, and what the criteria say."""
    rows, _ = judge_methods(model, cases, target="nodule", masks="mask", most=len(cases), steps=0, insertion_steps=0)
    game = next(row for row in rows if row.criterion == "pointing game")
    bar = f"bar: at least {least:.0%}" if least else f"bar: at most {game.baseline + 0.1:.0%}"
    print(f"{name}: {game.value:.1%} of {game.cases} maps hit ({bar}; chance {game.baseline:.1%})")
    print(*methods_lines(rows[:2]), sep="\n")
    if checked:
        rest, _ = judge_methods(model, cases, target="nodule", masks="mask", most=checked)
        print(*methods_lines(rest), sep="\n")
    return game.value >= least if least else game.value <= game.baseline + 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "phantoms"])
    parser.add_argument(
        "--backbone", nargs="+", default=["resnet18", "resnet50", "mobilenet_v2", "squeezenet1_0", "densenet121"]
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--phantom", choices=["nodule", "opacity"], default="nodule")
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--checked", type=int, default=0, help="of phantoms: maps that every check is made of")
    parser.add_argument("--same-layout", action="store_true", help="of speed: channels last for all, no bars")
    asked = parser.parse_args()
    by_speed = asked.what == "speed"
    good = speed(asked.backbone, asked.batch, asked.repeats, same=asked.same_layout) if by_speed else phantoms(asked.phantom, asked.patients, asked.epochs, asked.checked)  # fmt: skip
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
