"""Chests with several findings: what is drawn, and that an uncertain label must be masked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.synthetic.chest_findings import FINDINGS, SKILLS, draw_chest_findings

FIVE = list(FINDINGS)[:5]


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_chest_findings(tmp_path_factory.mktemp("chests"), patients=260, size=40)


def test_findings_go_together_and_are_as_common_as_planned(chests: Path) -> None:
    truth = pd.read_csv(chests.parent / "truth.csv").drop(columns="case")
    assert np.allclose(truth.mean(), list(FINDINGS.values()), atol=0.08)
    correlation = truth.corr().to_numpy()[np.triu_indices(6, 1)]
    assert correlation.mean() > 0.08


def test_labels_are_uncertain_where_a_finding_is_and_never_in_the_test_part(chests: Path) -> None:
    table = pd.read_csv(chests, dtype=str, keep_default_na=False)
    truth = pd.read_csv(chests.parent / "truth.csv")
    seen = table["split"] != "test"
    unsure = table.loc[seen, FIVE] == "-1"
    present = truth.loc[seen, FIVE] == 1
    assert unsure.to_numpy()[present.to_numpy()].mean() == pytest.approx(0.41, abs=0.06)
    assert unsure.to_numpy()[~present.to_numpy()].mean() < 0.06
    assert (table.loc[~seen, FIVE].to_numpy() == truth.loc[~seen, FIVE].astype(str).to_numpy()).all()


def test_readers_have_the_skill_that_is_written_down(chests: Path) -> None:
    read = pd.read_csv(chests.parent / "readers.csv").set_index("case")
    truth = pd.read_csv(chests.parent / "truth.csv").set_index("case")
    for r, (sensitivity, specificity) in enumerate(SKILLS):
        said = read[read["reader"] == f"R{r + 1}"].drop(columns="reader")
        true, given = truth.loc[said.index, said.columns].to_numpy(), said.to_numpy()
        known = ~np.isnan(given)
        assert given[known & (true == 1)].mean() == pytest.approx(sensitivity, abs=0.12)
        assert 1 - given[known & (true == 0)].mean() == pytest.approx(specificity, abs=0.05)


@pytest.mark.slow
def test_uncertain_labels_taken_for_negative_lose(tmp_path: Path) -> None:
    """CheXNet's labels: masked they teach, as negatives they mislead; of complete labels nothing is lost."""
    found = {}
    for doubtful in (True, False):
        table = draw_chest_findings(
            tmp_path / str(doubtful), patients=260, size=40, findings=5, doubtful=doubtful, readers=0
        )
        given = pd.read_csv(table, dtype=str, keep_default_na=False)
        given["image"] = [str(table.parent / name) for name in given["image"]]
        both = []
        for taken in (given, given.assign(**given[FIVE].replace({"-1": "0", "": "0"}))):
            cases = ov.read_cases(taken, image="image", patient="patient", labels=FIVE, split="split", names="keep")
            cases = cases.take(cases.labelled)
            parts = ov.split(cases)
            recipe = ov.Recipe(method="features", descriptors=("hog", "gist"), image_size=40, normalise="z-score")
            both.append(ov.predict(ov.train(cases, parts, recipe), cases.only(parts, "test")))
        found[doubtful] = both
    assert ov.compare(*found[True])["macro auc"].difference.low > 0
    masked, negative = found[False]
    assert np.allclose(masked.scores, negative.scores)
