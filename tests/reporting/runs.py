"""Run folders as the stages leave them, for the tests of the report: numbers judged by evaluate, the rest by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from overread.core.files import write_bytes, write_json, write_text
from overread.evaluation.evaluate import evaluate
from overread.evaluation.operating_point import choose_threshold
from overread.predictions import Predictions
from overread.synthetic import phantoms
from overread.tasks.target import Target

NASTY = "<script>alert('x')</script> & $\\frac{1}{0}$"


def predictions(
    target: Target, patients: int, seed: int, part: str, sources=("A", "B", "C"), d: float = 2.0
) -> Predictions:
    """Made-up predictions: one to three images a patient, correlated within a patient."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 4, patients)
    who = np.repeat(np.arange(patients), n)
    table = pd.DataFrame({
        "case": [f"{part}{i:05d}" for i in range(len(who))], "patient": [f"{part}-P{p:04d}" for p in who], "split": part,
        "source": np.array(sources)[rng.integers(0, len(sources), patients)[who]],
        "sex": np.array(["female", "male"])[rng.integers(0, 2, patients)[who]],
        "age": np.clip(rng.normal(57, 15, patients), 18, 95).round()[who].astype(int),
    })  # fmt: skip
    weak = np.where(table["sex"] == "female", 0.6, 1.0)
    k = len(target.names)
    if target.kind in ("binary", "classes"):
        truth = rng.choice(k, patients, p=[0.6, *([0.4 / (k - 1)] * (k - 1))])[who]
        logit = rng.normal(0, 1, (patients, k))[who] * 0.7 + rng.normal(0, 0.7, (len(who), k))
        logit[np.arange(len(who)), truth] += d * weak
        p = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        table["label"] = np.array(target.names, dtype=object)[truth]
        for i, name in enumerate(target.names):
            table[f"p:{name}"] = p[:, i]
    elif target.kind == "findings":
        for name in target.names:
            truth = (rng.random(patients) < 0.3)[who].astype(float)
            table[f"p:{name}"] = 1 / (1 + np.exp(-(rng.normal(0, 1, len(who)) + d * truth - 1.5)))
            table[f"label:{name}"] = np.where(rng.random(len(who)) < 0.1, np.nan, truth)
    else:
        table["value"] = rng.normal(50, 10, patients)[who]
        table["predicted"] = table["value"] + rng.normal(0, 5, len(who))
    return Predictions(table, target)


def make_run(folder: Path, target: Target, *, patients: int = 150, seed: int = 0, sound: bool = True, by=("sex", "age"),
             sources=("A", "B", "C")) -> Path:  # fmt: skip
    """A finished run."""
    tuning, test = (
        predictions(target, n, seed + i, part, sources)
        for i, (n, part) in enumerate(((80, "tuning"), (patients, "test")))
    )
    points = []
    if target.kind in ("binary", "classes") and target.positive:
        points = [choose_threshold(tuning, positive=target.positive)]
    (folder / "predictions").mkdir(parents=True)
    test.save(folder / "predictions" / "test.csv")
    tuning.save(folder / "predictions" / "tuning.csv")
    for _ in range(1 if sound else 2):
        judged = evaluate(
            test, at=points or None, by=by, ledger=folder / "ledger.jsonl", model="ab" * 32, resamples=200
        )
    judged.save(folder / "evaluation")
    _study(folder, target)
    _audit(folder, target, sound, sources)
    _model(folder, target)
    _gallery(folder, test)
    return folder


def _study(folder: Path, target: Target) -> None:
    write_text(folder / "study.toml", f'table = "metadata.csv"\npatient = "patient"\nsubgroups = ["sex", "age"]\nkind = "{target.kind}"\n'
               'recipe = "auto"\nseed = 7\nbudget = "10m"\n[split]\ntest = 0.2\ntuning = 0.1\n')  # fmt: skip
    write_json(
        folder / "cases.target.json",
        {"target": target, "root": ".", "notes": ["label: guessed column 'diagnosis'; override with --label"]},
    )
    write_json(folder / "record.json", {
        "versions": {"python": "3.12.1", "overread": "0.1.0", "torch": "2.6.0"}, "hardware": {"system": "Linux x86_64", "cores": "2"},
        "seed": 7, "started": "2025-05-06T09:14:03", "seconds": 143.2, "cases digest": "0f3a9c2e11d4b7a5",
        "command": "overread run metadata.csv --patient patient -o runs/phantom"})  # fmt: skip


def _audit(folder: Path, target: Target, sound: bool, sources) -> None:
    finding = {"cases": ["c1"], "count": 3}
    findings = [
        {"kind": "near-duplicate", "severity": "warning", "message": "5 pairs of images are nearly equal.",
         "advice": "They are kept on one side of the split; remove one of each if they are exports of the same image.", **finding},
        {"kind": "mixed-sizes", "severity": "note", "message": "Images have 2 sizes.", "advice": "", **finding},
    ]  # fmt: skip
    if not sound:
        findings.insert(0, {"kind": "leak", "severity": "error", "message": "3 patients stand in training and in the test set.",
                            "advice": "drop them from one side: overread run … --drop-leaks", **finding})  # fmt: skip
    classes = (
        {name: {"images": 120 + 30 * i, "patients": 80 + 9 * i} for i, name in enumerate(target.names)}
        if target.kind != "quantity"
        else {}
    )
    counts = {"images": 1004, "cases": 1004, "patients": 502, "labelled": 1001, "excluded": 5, "classes": classes,
              "sources": {s: {"images": 330, "patients": 160} for s in sources}}  # fmt: skip
    shortcut = {"auc": 0.58 if sound else 0.93, "low": 0.5, "high": 0.66, "images": 1004, "patients": 502, "method": "", "undefined": "",
                "verdict": "low" if sound else "high", "by feature": {"source": {"auc": 0.52, "low": 0.44, "high": 0.6},
                "intensity": {"auc": 0.57, "low": 0.49, "high": 0.65}}}  # fmt: skip
    excluded = [
        ["c0001", "unreadable: truncated PNG"],
        ["c0002", "unreadable: not an image"],
        ["c0003", "missing label"],
    ]
    write_json(
        folder / "audit.json",
        {"format": 1, "findings": findings, "counts": counts, "shortcut": shortcut, "pairs": [], "excluded": excluded},
    )
    parts = {p: {"images": n, "cases": n, "patients": m, "classes": {}, "class images": {name: n // len(target.names) for name in target.names}}
             for p, n, m in (("train", 700, 351), ("tuning", 102, 51), ("test", 199, 100))}  # fmt: skip
    write_text(folder / "split.csv", "case,patient,part\nc1,secret-patient-7,train\n")
    write_json(folder / "split.proof.json", {"format": 1, "method": "By patient, near-duplicates kept together, stratified by label and source.", "seed": 7, "proof": {
        "patients shared": 0 if sound else 3, "duplicate groups shared": 0, "groups": 498, "largest group": 6,
        "checked": "recomputed from the written file: every patient and every group of duplicates has one part", "parts": parts,
        "left out": {}, "warnings": [], "given": False, "digest": "9ab2c4d7e6f10a33"}})  # fmt: skip


def _model(folder: Path, target: Target) -> None:
    epochs = 14
    history = [{"epoch": e, "step": 22 * e, "train loss": 0.69 * np.exp(-0.16 * e) + 0.12, "tuning loss": 0.70 * np.exp(-0.14 * e) + 0.2 + 0.004 * e,
                "tuning score": 0.92 - 0.4 * np.exp(-0.4 * e) - 0.0008 * max(0, e - 9) ** 2, "learning rate": 1e-3, "seconds": 5.0 * e}
               for e in range(1, epochs + 1)]  # fmt: skip
    write_json(folder / "model" / "history.json", history)
    write_json(folder / "model" / "model.json", {
        "format": 1, "recipe": {"kind": "scratch", "backbone": "small", "image_size": 64, "epochs": epochs, "label_smoothing": 0.05,
                                "augmentation": {"flip_horizontal": 0.5, "rotate": 180.0}},
        "preprocess": {"size": [64, 64], "channels": 3, "fit": "squash", "mean": [0.62, 0.5, 0.63]}, "target": target,
        "backbone": {"name": "small", "parameters": 391_234, "licence": "Apache-2.0", "pretrained": False, "weights_source": ""},
        "seen": ["ab"] * 351, "salt": "salt", "decisions": [
            {"what": "recipe", "choice": "scratch", "why": "no initial weights at hand, images of 64 pixels, 351 patients; 10 min allow 14 epochs"},
            {"what": "stopped", "choice": "epoch 14", "why": "no gain on tuning data for 5 epochs"}]})  # fmt: skip


def _gallery(folder: Path, test: Predictions) -> None:
    import cv2

    entries = []
    for i in range(6):
        picture = phantoms.draw_microscope(0, i, float(i % 3), device=i)
        write_bytes(
            folder / "explanations" / "errors" / f"{i}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        )
        names = test.target.names
        entries.append({"case": str(test.table["case"][i]), "truth": names[0], "predicted": names[-1], "probability": 0.97 - i / 50,
                        "thumbnail": f"explanations/errors/{i}.png", "correct": i > 2, "beside": entries[i - 3]["case"] if i > 2 else ""})  # fmt: skip
    write_json(folder / "explanations" / "gallery.json", entries)
    copies = {"kind": "near-duplicate", "words": "the same but for compression, of one patient", "cases": ["secret-1", "secret-2"],
              "labels": [names[0], names[-1]], "thumbnails": ["explanations/errors/0.png", "explanations/errors/1.png"]}  # fmt: skip
    written = {"kind": "burned-in", "words": "writing in the pixels, covered here", "cases": ["secret-3"], "labels": [names[0]], "thumbnails": [""]}  # fmt: skip
    write_json(folder / "explanations" / "audit.json", [copies, written])
