"""The methods that make a map of an answer, in one table. It can be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from overread.core.errors import checked, one_of


@dataclass(frozen=True)
class Method:
    """How a map is made.

    ``signed``: values below 0 speak against the target; else the map is 0 or above. ``layered``: it looks at one layer of
    the network, whose grid is coarser than the image. ``complete``: the values of a map add up to the output less that of
    a blank image, but for the error of a sum in place of an integral. ``of_target``: it differs from target to target.
    """

    name: str
    title: str
    kind: Literal["cam", "gradients", "occlusion", "tokens"]
    signed: bool
    layered: bool
    words: str
    source: str
    complete: bool = False
    of_target: bool = True


_ROWS = (
    Method("grad-cam", "Grad-CAM", "cam", False, True,
           "the maps of a layer, each weighted by its mean gradient; what speaks for the target",
           "Selvaraju 2017, arXiv:1610.02391, equations 1 and 2"),
    Method("grad-cam++", "Grad-CAM++", "cam", False, True,
           "the same, the gradient of each place weighted such that several small lesions count",
           "Chattopadhay 2018, arXiv:1710.11063, equations 11 and 19"),
    Method("cam", "CAM", "cam", True, True,
           "the last maps, weighted as the linear head weighs their means: an exact share of the output for each place",
           "Zhou 2016, arXiv:1512.04150, equation 2"),
    Method("gradient", "Gradient", "gradients", False, False,
           "how much the output changes with each pixel: the largest magnitude over the channels",
           "Simonyan 2014, arXiv:1312.6034, section 3.1"),
    Method("gradient-x-input", "Gradient × input", "gradients", True, False,
           "the gradient times how far the pixel lies from the mean of the training images",
           "Shrikumar 2017, arXiv:1605.01713"),
    Method("integrated-gradients", "Integrated gradients", "gradients", True, False,
           "the gradient along the way from the mean of the training images to this one; adds up to the change of the output",
           "Sundararajan 2017, arXiv:1703.01365, equation 1", complete=True),
    Method("smoothgrad", "SmoothGrad", "gradients", False, False,
           "the mean gradient of noisy copies of the image: the largest magnitude over the channels",
           "Smilkov 2017, arXiv:1706.03825, section 3"),
    Method("occlusion", "Occlusion", "occlusion", True, False,
           "how far the output falls when a window of the image is blanked out",
           "Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2"),
    Method("token-gradients", "Token gradients", "tokens", True, True,
           "gradient times activation at each place of a layer, added up over its channels; on maps this is HiResCAM",
           "Draelos and Carin 2020, arXiv:2011.08891, equation 6"),
    Method("attention-rollout", "Attention rollout", "tokens", False, False,
           "how attention passes from the patches to the answer, layer by layer; it is the same for every target",
           "Abnar and Zuidema 2020, arXiv:2005.00928, section 3", of_target=False),
)  # fmt: skip

#: Every method by name, those that most people need first.
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


@checked
def method_of(name: str) -> Method:
    """The method of that name. Raises :class:`ArgumentError` with the nearest one for an unknown name.

    >>> method_of("grad-cam").title
    'Grad-CAM'
    """
    return METHODS[one_of(name, METHODS, "the method")]
