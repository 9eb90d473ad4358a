"""Maps of tokens: attention by its definition, gradients by captum."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradientXActivation

from overread.core.errors import UnavailableError
from overread.explanation.attribute import attributions
from overread.explanation.tokens import attention_rollout, token_map
from overread.networks.backbones import layer


@pytest.fixture
def vit(network):
    return network("vit_tiny_patch16_224")


def test_rollout_is_the_product_of_what_the_blocks_attend_to(vit, images) -> None:
    x = images(2, 3, 48, 32)  # a grid of 3 × 2
    made = attention_rollout(vit, x)
    tokens, product = [], torch.eye(7).expand(2, 7, 7)
    hooks = [block.norm1.register_forward_hook(lambda m, i, o: tokens.append(o)) for block in vit.trunk.blocks]
    with torch.no_grad():
        vit(x)
        for hook in hooks:
            hook.remove()
        for block, given in zip(vit.trunk.blocks, tokens, strict=True):
            q, k, _ = block.attn.qkv(given).reshape(2, 7, 3, 3, 64).permute(2, 0, 3, 1, 4)
            attention = torch.stack([(q[:, h] @ k[:, h].mT / 8).softmax(-1) for h in range(3)]).mean(0)
            product = (attention / 2 + torch.eye(7) / 2) @ product
    torch.testing.assert_close(made, product[:, 0, 1:].reshape(2, 3, 2), atol=1e-6, rtol=1e-5)
    assert bool((made.sum(dim=(1, 2)) < 1).all())


def test_token_gradients_are_captums(vit, images) -> None:
    x, target = images(2, 3, 48, 32), torch.tensor([1, 0])
    made = token_map(vit, x, target, "blocks.11.norm1")
    found = LayerGradientXActivation(vit, layer(vit, "blocks.11.norm1")).attribute(x, target=target)
    wanted = found.sum(dim=-1)[:, 1:].reshape(2, 3, 2)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(made, wanted.detach(), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet_tiny", "swin_tiny_patch4_window7_224"])
def test_there_is_nothing_to_roll_out_without_attention_to_all(network, images, name) -> None:
    with pytest.raises(UnavailableError, match="no attention of every token.*token-gradients"):
        attributions(network(name), images(1, 3, 64, 64), 0, "attention-rollout")
