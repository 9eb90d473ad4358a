"""The one door: every shape of input, ensembles, orientations, and the same map whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overread.core.errors import ArgumentError
from overread.explanation import attribute
from overread.explanation.attribute import attributions, layer_of
from overread.explanation.methods import METHODS
from overread.images.preprocess import Preprocess
from overread.learning.device import oriented
from overread.learning.ensemble import Committee, Member
from overread.networks.fusion import Fused
from overread.networks.taps import Tapped

EVERYWHERE = [name for name in METHODS if name not in ("cam", "attention-rollout")]
P28 = Preprocess((28, 28), 3, mean=(0.5,) * 3, std=(0.2,) * 3)
FUSIONS = [("mean", 0), ("concat", 2), ("stacked", 2), ("recurrent", 0), ("attention", 0)]


@pytest.mark.parametrize("method", EVERYWHERE)
def test_images_together_get_the_map_that_each_gets_alone(network, images, method, monkeypatch) -> None:
    monkeypatch.setattr(attribute, "_GRAPHS", 2)
    monkeypatch.setattr(attribute, "_ENDS", 2)
    net, x, target = network("cnn_small"), images(3, 3, 16, 16), torch.tensor([0, 2, 1])
    together = attributions(net, x, target, method)
    assert together.shape == (3, 16, 16)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    alone = torch.cat([attributions(net, x[i : i + 1], int(target[i]), method) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-3)
    assert (together < 0).any() == METHODS[method].signed


@pytest.mark.parametrize(("fusion", "places"), FUSIONS)
@pytest.mark.parametrize("method", ["grad-cam", "gradient-x-input", "occlusion"])
def test_of_several_images_each_has_its_map_and_a_missing_one_none(network, images, fusion, places, method) -> None:
    torch.manual_seed(0)
    net = Fused(network("cnn_small"), fusion, outputs=2, places=places).eval()
    torch.nn.init.normal_(net.head.weight)
    if fusion == "stacked":
        net.head = net.fuse.summed()
    x = images(3, 2, 3, 16, 16)
    x[1, 0] = torch.nan
    made = attributions(net, x, 1, method)
    assert made.shape == (3, 2, 16, 16)
    assert made[1, 0].isnan().all()
    assert made[[0, 1, 2], [0, 1, 1]].isfinite().all()
    changed = x.clone()
    changed[0, 1] = 0
    if fusion == "mean":  # of a mean of features, what one image adds does not depend on the other
        torch.testing.assert_close(attributions(net, changed, 1, method)[0, 0], made[0, 0], atol=1e-5, rtol=1e-3)
    assert made[0, 1].abs().max() > 0


def test_two_images_of_which_one_is_lit_share_the_map_as_the_head_weighs_them(network, images) -> None:
    """Grad-CAM of a mean of two images is half of what each would get alone."""
    body = network("resnet_tiny")
    net = Fused(body, "mean", outputs=2).eval()
    x = images(1, 2, 3, 28, 28)
    made = attributions(net, x, 1, "grad-cam")
    for view in range(2):
        alone = attributions(net, x[:, view : view + 1], 1, "grad-cam")
        torch.testing.assert_close(made[:, view], alone[:, 0] / 2, atol=1e-6, rtol=1e-4)


def test_a_map_of_an_ensemble_is_the_mean_of_its_members_each_at_its_own_size(network, images) -> None:
    small, large = network("resnet_tiny"), network("cnn_small")
    whole = Preprocess((32, 32), 3, mean=(0.5,) * 3, std=(0.2,) * 3)
    group = Committee([Member(small, P28, whole), Member(large, whole, whole)], (0.25, 0.75)).eval()
    x = images(2, 3, 32, 32)
    assert layer_of(group, x, "grad-cam") == "block3 + relu3"
    made = attributions(group, x, 1, "grad-cam")
    parts = []
    for member, share in zip(group.members, group.shares, strict=True):
        own = attributions(member.network, member.prepared(x), 1, "grad-cam")
        own = own / own.amax(dim=(1, 2), keepdim=True)
        parts.append(share * attribute._resized(own[:, None], (32, 32))[:, 0])
    torch.testing.assert_close(made, sum(parts))
    assert float(made.max()) <= 1
    slope = attributions(group, x, 1, "gradient-x-input")  # of the answer of the ensemble itself
    step = 1e-3
    with torch.no_grad():
        moved = (group(x * (1 + step)) - group(x * (1 - step)))[:, 1] / (2 * step)
    torch.testing.assert_close(slope.sum(dim=(1, 2)), moved, rtol=0.02, atol=0.01)
    with pytest.raises(ArgumentError, match="no such layer"):
        attributions(group, x, 1, layer="nowhere")


def test_a_member_whose_map_says_nothing_adds_nothing(network, images) -> None:
    one, other = network("resnet_tiny"), network("resnet_tiny")
    with torch.no_grad():
        other.head.weight.zero_()
    group = Committee([Member(one, P28, P28), Member(other, P28, P28)], (0.5, 0.5)).eval()
    x = images(1, 3, 28, 28)
    alone = attributions(one, x, 2, layer="block3")
    made = attributions(group, x, 2, layer="block3")
    torch.testing.assert_close(made, alone / alone.max() / 2)


@pytest.mark.parametrize("sides", [2, 3])
@pytest.mark.parametrize("views", [2, 4, 8])
def test_maps_of_orientations_lie_as_the_image_does(network, images, views, sides, monkeypatch) -> None:
    """A network that looks at the brightest place gives one map, however the image is turned."""
    net = network("cnn_small" if sides == 2 else "cnn3d_small", channels=1)
    x = images(2, 1, *[16] * sides)
    monkeypatch.setattr(attribute, "_attributed", lambda net, x, *rest: x[:, 0] ** 2)
    made = attributions(net, x, 0, "gradient", views=views)
    torch.testing.assert_close(made, x[:, 0] ** 2)
    assert len(list(oriented(x, views))) == views


def test_descriptors_alone_can_be_occluded(images) -> None:
    bare = Tapped(None, (), P28, 2, descriptors=("colour",)).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(bare.head.weight)
    made = attributions(bare, images(1, 3, 28, 28), 1, "occlusion")
    assert made.abs().max() > 0


def test_no_images_give_no_maps_and_a_wrong_shape_is_refused(network, images) -> None:
    net = network("cnn_small")
    assert attributions(net, images(0, 3, 16, 16), 0, "gradient").shape == (0, 16, 16)
    with pytest.raises(ArgumentError, match="no images, volumes"):
        attributions(net, images(3, 16), 0)
    with pytest.raises(ArgumentError, match="grad-cam"):
        attributions(net, images(1, 3, 16, 16), 0, "grad-kam")


def test_the_table_of_methods_is_whole() -> None:
    for about in METHODS.values():
        assert about.words[0].islower()
        assert "arXiv" in about.source
    assert [about.name for about in METHODS.values() if about.complete] == ["integrated-gradients"]
    assert np.all([about.kind in ("cam", "tokens") for about in METHODS.values() if about.layered])
