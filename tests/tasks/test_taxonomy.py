"""A tree of classes: what is refused, training classes against a slow restatement, and levels."""

from __future__ import annotations

import numpy as np
import pytest

import overread as ov
from overread.core.errors import ArgumentError, InputError
from overread.core.files import build, plain
from overread.tasks.taxonomy import Partition, Taxonomy, partition, read_taxonomy

SKIN = """child,parent,level
malignant,lesion,malignancy
benign,lesion,malignancy
pigmented,malignant,
mel,pigmented,
bcc,malignant,
nv,benign,
bkl,benign,
"""


@pytest.fixture
def skin(tmp_path) -> Taxonomy:
    return _read(tmp_path, SKIN)


def _read(folder, text: str) -> Taxonomy:
    (folder / "tree.csv").write_text(text, "utf-8")
    return read_taxonomy(folder / "tree.csv")


def test_the_tree_is_what_the_file_says(skin):
    assert (skin.root, skin.depth, skin.leaves) == ("lesion", 3, ("mel", "bcc", "nv", "bkl"))
    assert skin.path("mel") == ("mel", "pigmented", "malignant", "lesion")
    assert skin.nodes_at("malignancy") == skin.nodes_at("level-1") == ("malignant", "benign")
    assert skin.nodes_at("level-3") == ("mel", "bcc", "nv", "bkl"), "a leaf that ends before stands for itself"
    assert skin.at("level-2") == {"lesion": "", "malignant": "", "benign": "", "pigmented": "pigmented",
                                  "mel": "pigmented", "bcc": "bcc", "nv": "nv", "bkl": "bkl"}  # fmt: skip
    assert "malignancy (2)" in str(skin)
    assert "level-3 (4)" in str(skin)


def test_it_survives_a_file_and_a_row_that_stands_twice_is_said(skin, tmp_path):
    skin.save(tmp_path / "again.csv")
    assert read_taxonomy(tmp_path / "again.csv") == skin
    twice = _read(tmp_path, SKIN + "mel,pigmented,\n lesion ,,\n")
    assert set(twice.nodes) == set(skin.nodes)
    assert "1 row says again" in twice.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("child,parent\na,b\nb,c\nc,a\nx,y\n", "a → b → c → a"),
        ("child,parent\na,a\nb,r\n", "circle"),
        ("child,parent\na,r\nb,r\nb,a\n", "two parents"),
        ("child,parent\na,r\nb,r\nc,s\nd,s\n", "several roots"),
        ("child,parent\nMel,r\nmel,r\n", "differ only in how"),
        ("child,parent\nbasal cell,r\nBasal-cell,r\n", "differ only in how"),
        ("child,parent\na,r\n,r\n", "names no child"),
        ("child,parent\n", "no row"),
        ("child,parent\na,r\n", "fewer than two"),
        ("child;parent\na;r\n", "lacks the column 'child'"),
        ("", "cannot be read"),
        ("child,parent,level\na,r,top\nb,r,\n", "leaves out the leaf 'b'"),
        ("child,parent,level\na,r,top\nb,a,top\nc,r,top\n", "inside itself"),
        ("child,parent,level\na,r,level-2\nb,r,level-2\n", "name of a depth"),
        ("child,parent,level\na,r,x\na,r,y\nb,r,x\n", "two levels"),
    ],
)
def test_a_file_that_is_no_tree_is_refused(text, said, tmp_path):
    with pytest.raises(InputError, match=said):
        _read(tmp_path, text)


def test_labels_must_be_nodes_and_none_above_another(skin):
    with pytest.raises(InputError, match="--rename-label MEL=mel"):
        skin.require_labels(["MEL", "nv", ""])
    with pytest.raises(InputError, match="lacks 1 label"):
        skin.require_labels(["melanoma"])
    with pytest.raises(InputError, match="'malignant' is an inner node"):
        skin.require_apart(["malignant", "mel", "nv"])
    skin.require_apart(["malignant", "nv", ""])
    with pytest.raises(InputError, match="no level 'malignant'"):
        skin.nodes_at("malignant")
    with pytest.raises(InputError, match="no level 'level-4'"):
        skin.nodes_at("level-4")
    with pytest.raises(InputError, match="does not exist"):
        read_taxonomy("nowhere.csv")


def test_a_subtree_within_the_limit_is_one_class_else_its_children_are_tried(skin):
    labels = ["mel"] * 5 + ["bcc"] * 2 + ["nv"] * 30 + ["bkl"] * 9 + ["benign"] * 3 + [""]
    made = partition(skin, labels, [f"p{i // 2}" for i in range(50)], max_class_size=10, names=("lesion", "bkl"))
    assert [(c.name, c.images, c.patients, c.labels) for c in made.classes] == [
        ("malignant", 7, 4, ("mel", "bcc")), ("nv", 30, 16, ("nv",)), ("bkl", 9, 5, ("bkl",))]  # fmt: skip
    assert [(c.name, c.images, c.patients) for c in made.inner] == [("benign", 3, 2)]
    assert made.absent == ("lesion",)
    assert dict(made.class_of) == {"lesion": "", "bkl": "bkl", "mel": "malignant", "bcc": "malignant", "nv": "nv", "benign": ""}  # fmt: skip
    said = "\n".join(made.notes)
    assert "without a child to be cut into: nv (30)" in said
    assert "benign (3 images)" in said
    assert "lesion" in said
    assert build(Partition, plain(made), where="a file") == made
    assert "malignant" in str(made)
    assert "3 training classes" in str(made)


def test_classes_of_a_level_and_what_has_no_training_image(skin):
    made = partition(skin, ["mel", "nv", "nv"], ["a", "b", "c"], level="level-2", names=("mel", "bcc", "nv", "benign"))
    assert made.names == ("pigmented", "nv")
    assert made.absent == ("bcc", "benign")
    assert "fewer than 3 training patients: pigmented (1), nv (2)" in "\n".join(made.notes)
    with pytest.raises(InputError, match="not cut into two classes"):
        partition(skin, ["mel", "nv"], ["a", "b"], max_class_size=5)
    with pytest.raises(InputError, match="not cut into two classes"):
        partition(skin, ["mel", "bcc"], ["a", "b"], level="malignancy")
    for wrong in ({}, {"max_class_size": 5, "level": "malignancy"}):
        with pytest.raises(ArgumentError, match="in one way"):
            partition(skin, ["mel"], ["a"], **wrong)
    assert ov.partition is partition
    assert ov.read_taxonomy is read_taxonomy
    assert ov.Taxonomy is Taxonomy


def test_the_partition_is_the_slow_restatement_of_the_paper_on_random_trees():
    chance = np.random.default_rng(7)
    for _ in range(15):
        size = int(chance.integers(6, 30))
        nodes = [f"n{i}" for i in range(size)]
        parents = ["", *(nodes[chance.integers(0, i)] for i in range(1, size))]
        tree = Taxonomy(tuple(nodes), tuple(parents))
        labels = [nodes[i] for i in chance.integers(1, size, 60)]
        limit = int(chance.integers(1, 30))
        below = {n: [m for m in nodes if n in _up(m, dict(zip(nodes, parents, strict=True)))] for n in nodes}
        images = {n: sum(label in below[n] for label in labels) for n in nodes}
        wanted = _restated("n0", tree, images, limit)
        if len(wanted) < 2:
            continue
        made = partition(tree, labels, labels, max_class_size=limit)
        assert made.names == tuple(wanted)
        assert [c.images for c in made.classes] == [images[n] for n in wanted]
        assert sum(c.images for c in made.classes) + sum(c.images for c in made.inner) == 60, "every image is counted"


def _up(node: str, over: dict[str, str]) -> list[str]:
    return [node, *(_up(over[node], over) if over[node] else [])]


def _restated(node: str, tree: Taxonomy, images: dict[str, int], limit: int) -> list[str]:
    filled = [child for child in tree.children(node) if images[child]]
    if images[node] <= limit or not filled:
        return [node] if images[node] else []
    return [name for child in filled for name in _restated(child, tree, images, limit)]
