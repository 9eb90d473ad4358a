"""Cases, audit and split on real images: what is known of them must be found."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.audit.fingerprints import similar, take_fingerprints
from overread.cases.cases import paths
from overread.cases.class_tree import in_tree
from overread.cases.split import leaked, without
from overread.images.read import read_image


@pytest.fixture(scope="module")
def pneumonia(shared):
    return ov.read_cases(shared / "data/pneumoniamnist/pneumoniamnist.npz")


@pytest.fixture(scope="module")
def pneumonia_audit(pneumonia, tmp_path_factory):
    return ov.audit(pneumonia, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def skin(shared):
    return ov.read_cases(
        shared / "data/ham10000/metadata.csv", image="file", label="dx", patient="lesion_id", source="dataset",
        positive=["mel", "bcc", "akiec"], subgroups=["sex", "age"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def skin_audit(skin, tmp_path_factory):
    return ov.audit(skin, cache=tmp_path_factory.mktemp("cache"))


def test_the_eight_leaked_images_are_found(pneumonia, pneumonia_audit):
    leak = pneumonia_audit.of("leak")
    assert (leak.count, leak.severity) == (8, "error")
    assert "8 distinct images" in leak.message
    assert "8 in both train and tuning" in leak.message
    assert len(pneumonia_audit.all("leak")) == 1
    table = pneumonia.table.set_index("case").loc[list(leak.cases)]
    assert set(table["split"]) == {"train", "tuning"}
    pixels = {}
    for case, address in zip(leak.cases, paths(ov.Cases(table.reset_index(), pneumonia.target, pneumonia.root))):
        pixels.setdefault(read_image(address).pixels.tobytes(), set()).add(table.loc[case, "split"])
    assert list(pixels.values()) == [{"train", "tuning"}] * 8


def test_look_alike_radiographs_are_not_near_duplicates(pneumonia_audit):
    assert pneumonia_audit.of("near-duplicate") is None


def test_its_own_split_is_kept_and_cleaned(pneumonia, pneumonia_audit):
    given = ov.split(pneumonia, audit=pneumonia_audit)
    assert {p: c["cases"] for p, c in given.counts().items()} == {"train": 4708, "tuning": 524, "test": 624}
    drop = leaked(pneumonia, given, pneumonia_audit)
    assert all(name.startswith("train-") for name in drop)
    clean = without(pneumonia, given, drop, pneumonia_audit)
    assert clean.counts()["test"]["cases"] == 624
    assert clean.proof["duplicate groups shared"] == 0


def test_volumes(shared):
    cases = ov.read_cases(shared / "data/adrenalmnist3d/adrenalmnist3d.npz")
    assert cases.target == ov.Target("binary", ("normal", "hyperplasia"), ("hyperplasia",))
    assert cases.table["split"].value_counts().to_dict() == {"train": 1188, "test": 298, "tuning": 98}
    prints = take_fingerprints(cases.take(np.arange(200)))
    assert (prints["error"] == "").all()
    assert set(prints["depth"]) == {28}
    assert len(similar(prints)) == 0


def test_skin_is_read_as_it_is(skin):
    assert skin.target.names == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert skin.table["source"].value_counts().to_dict() == {
        "vidir_molemax": 3159,
        "vidir_modern": 1346,
        "rosendahl": 1259,
        "vienna_dias": 220,
    }
    assert skin.table["age"].dtype == float
    assert skin.table["age"].isna().any()
    assert "unknown" in set(skin.table["sex"])


@pytest.mark.slow
def test_skin_source_tells_the_diagnosis(skin_audit):
    assert skin_audit.shortcut["by feature"]["source"]["auc"] > 0.65
    assert skin_audit.of("shortcut").severity == "warning"
    assert len([pair for pair in skin_audit.pairs if pair[2] == "near"]) <= 3
    assert skin_audit.of("unreadable") is None
    assert "df" in skin_audit.of("few-patients").message
    assert "72 times" in skin_audit.of("imbalance").message


@pytest.mark.slow
def test_skin_split_deployed_to_one_site(skin, skin_audit):
    made = ov.split(skin, audit=skin_audit, deploy_to="source == 'rosendahl'", seed=7)
    parts = made.proof["parts"]
    assert set(parts["tuning"]["sources"]) == set(parts["test"]["sources"]) == {"rosendahl"}
    assert parts["train"]["sources"]["rosendahl"] > parts["tuning"]["images"] + parts["test"]["images"]
    assert made.proof["patients shared"] == made.proof["duplicate groups shared"] == 0


@pytest.mark.slow
def test_skin_leaving_one_site_out(skin, skin_audit):
    made = ov.split(skin, audit=skin_audit, leave_out="vienna_dias")
    assert set(made.proof["parts"]["test"]["sources"]) == {"vienna_dias"}
    assert "vienna_dias" not in made.proof["parts"]["train"]["sources"]


def test_skin_folds_have_the_same_classes(skin):
    fold = ov.folds(skin, k=5)
    counts = pd.crosstab(fold, skin.table["label"])
    assert (counts.max() - counts.min()).max() <= 2


CHANGES = {
    "JPEG 40": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_UNCHANGED),
    "brighter": lambda p: np.clip(p.astype(np.float32) * 1.08 + 5, 0, 255).astype(np.uint8),
    "shifted": lambda p: cv2.warpAffine(p, np.float32([[1, 0, 2], [0, 1, -1]]), p.shape[1::-1], borderMode=cv2.BORDER_REFLECT),
    "half": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_planted_near_duplicates_of_real_images(skin, tmp_path, change):
    """Every tenth of 300 images gets a changed copy: 9 of 10 copies are found, and hardly anything else."""
    some = skin.take(np.arange(0, 3000, 10))
    copies = []
    for k, address in enumerate(paths(some)[::10]):
        pixels = cv2.imread(address)
        cv2.imwrite(str(tmp_path / f"{k}.png"), CHANGES[change](pixels))
        copies.append(str(tmp_path / f"{k}.png"))
    table = pd.concat(
        [some.table.assign(image=paths(some)), some.table.iloc[::10].assign(image=copies)], ignore_index=True
    )
    found = set(map(tuple, similar(take_fingerprints(ov.Cases(table, skin.target))).tolist()))
    planted = {(10 * k, 300 + k) for k in range(30)}
    assert len(found & planted) >= 27
    assert len(found - planted) <= 1


def test_training_classes_are_cut_from_the_tree_of_seven_skin_lesions(skin):
    tree = ov.Taxonomy(("lesion", "malignant", "benign", "mel", "bcc", "akiec", "nv", "bkl", "df", "vasc"),
                       ("", "lesion", "lesion", *["malignant"] * 3, *["benign"] * 4))  # fmt: skip
    made = ov.partition(tree, skin.table["label"], skin.table["patient"], max_class_size=1000)
    assert [(c.name, c.images) for c in made.classes] == [
        ("malignant", 938),
        ("nv", 4323),
        ("bkl", 583),
        ("df", 60),
        ("vasc", 80),
    ]
    assert any("nv (4,323)" in note for note in made.notes)
    assert in_tree(skin, tree, positive=("malignant",)).target.positive == ("akiec", "bcc", "mel")
