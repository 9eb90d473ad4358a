"""Outlines as a task: what it says of labels, and its loss against a slow restatement."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from overread.core.errors import ArgumentError
from overread.tasks.target import Target

ONE = Target("segmentation", ("object",)).task
TWO = Target("segmentation", ("red", "white")).task


def test_the_label_of_a_row_is_whether_it_has_a_mask() -> None:
    table = pd.DataFrame({"mask": ["a.png", "", "b.json#image=x.png"]})
    labels = ONE.read_labels(table)
    assert ONE.known(labels).tolist() == [True, False, True]
    assert ONE.distinct(labels) == 2
    assert ONE.strata(labels).tolist() == [0, 0, 0]
    assert TWO.presence(labels).tolist() == [[True, True], [False, False], [True, True]]
    assert ONE.count(labels, pd.Series(["p", "p", "p"])) == {"masks": {"images": 2, "patients": 1}}
    assert ONE.label_words(labels) == ["outlined", "", "outlined"]
    assert ONE.summary == "outlines of objects"
    assert TWO.title(("red", "white"), str) == "Outlining red, white in images"
    assert ONE.dense
    assert not Target("quantity", ("v",)).task.dense


def test_the_loss_is_cross_entropy_summed_over_the_pixels_that_are_known() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, 2, 4, 5))
    labels = (rng.random((3, 2, 4, 5)) < 0.4).astype(float)
    labels[0, 1, 2:] = np.nan
    weights = np.array([1.0, 3.0], np.float32)
    total = np.zeros(3)
    for image, name, row, column in np.ndindex(labels.shape):
        truth = labels[image, name, row, column]
        if not np.isnan(truth):
            p = 1 / (1 + np.exp(-outputs[image, name, row, column]))
            total[image] -= weights[name] * np.log(p) if truth else np.log(1 - p)
    loss = TWO.loss(weights, 0.0)
    given = torch.from_numpy(outputs), torch.from_numpy(labels)
    assert loss(*given).item() == pytest.approx(total.mean())
    shares = torch.tensor([2.0, 0.0, 1.0])
    assert loss(*given, shares).item() == pytest.approx((2 * total[0] + total[2]) / 3)
    with pytest.raises(ArgumentError, match="the loss of outlines"):
        TWO.loss(weights, 0.0, name="hinge")


def test_a_linear_head_sees_pixels_as_cases_with_findings() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, 6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(6, 2, generator=generator) < 0.5).double()
    loss, slope = TWO.loss_and_slope(outputs, labels, torch.ones(2, dtype=torch.float64))
    loss.sum().backward()
    assert torch.allclose(outputs.grad, slope)
