"""U-Nets: sides, stages, weights of the encoder, and what is refused."""

import pytest
import torch

from overread.core.errors import ArgumentError, UnavailableError
from overread.networks.backbones import BACKBONES, build
from overread.networks.stages import stages
from overread.networks.unet import build_unet, copied_from


@pytest.mark.parametrize(("name", "depth"), [("unet_small", 4), ("mobilenet_v2", 4), ("resnet_tiny", 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_answers_have_a_place_in_stride_pixels_for_any_sides(name, depth, stride):
    network = build_unet(name, outputs=3, depth=depth, stride=stride).eval()
    for height, width in ((64, 64), (33, 70), (5, 7)):
        with torch.inference_mode():
            made = network(torch.rand(2, 3, height, width))
        assert made.shape == (2, 3, -(-height // stride), -(-width // stride))


def test_sides_that_fit_are_not_padded():
    network = build_unet("unet_small", outputs=2).eval()
    x = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        assert torch.equal(network(x), network.head(network.trunk(x)))


def test_the_rest_of_an_efficientnet_is_left_out():
    network = build_unet("mobilenet_v2", outputs=2, depth=3)
    names = [stage.name for stage in stages(network)]
    assert names == ["trunk.conv_stem", "trunk.blocks.0", "trunk.blocks.1", "trunk.blocks.2"]
    with torch.inference_mode():
        sides = [each.shape[-1] for each in network.eval().trunk(torch.zeros(1, 3, 32, 32))]
    assert sides == [16, 8, 4]


@pytest.mark.parametrize("name", ["unet_small", "mobilenet_v2", "resnet18", "densenet121"])
def test_every_tensor_of_the_encoder_comes_from_its_backbone(name):
    backbone, network = build(name, outputs=1), build_unet(name, outputs=2)
    found = copied_from(backbone, network)
    assert set(found) == {key for key in network.state_dict() if key.startswith("trunk.")}
    network.load_state_dict(found, strict=False)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        last = network.eval().trunk(x)[-1]
        assert any(
            torch.allclose(last, each, atol=1e-5) for each in _all_maps(backbone.eval(), x) if each.shape == last.shape
        )


def _all_maps(network, x):
    found, hooks = [], []
    for part in network.modules():
        hooks.append(
            part.register_forward_hook(
                lambda _, __, made: found.append(made.clone()) if isinstance(made, torch.Tensor) else None
            )
        )
    network(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "squeezenet1_0", "convnext_tiny", "inception_v3", "resnet3d_small"]
)
def test_a_backbone_without_such_maps_is_refused(name):
    with pytest.raises(UnavailableError, match="gives no maps"):
        build_unet(name, outputs=2)


def test_more_halvings_than_there_are_is_refused():
    with pytest.raises(UnavailableError):
        build_unet("resnet_tiny", outputs=2, depth=5)
    with pytest.raises(ArgumentError, match="backbone"):
        build_unet("resnet_tny", outputs=2)


def test_the_small_one_is_a_row_of_the_table():
    assert BACKBONES["unet_small"].licence == "Apache-2.0"
    assert next(stage.name for stage in stages(build_unet("unet_small", outputs=1))) == "trunk.stem"
