"""Frozen classification networks whose features losses and metrics compare: VGG19, AlexNet.

Their weights come from a file, never from chance: without the file the networks cannot be built.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015; Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
arXiv 1404.5997, 2014 (the form of AlexNet that LPIPS was trained on).
"""

import os
import pickle
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import CheckpointError, InputError, UnavailableError, check_choice
from edgekeeper.files import user_cache

VGG19Weights = Literal["oxford", "torchvision"]

DATA_VARIABLE = "EDGEKEEPER_DATA"
VGG19_FILES: dict[VGG19Weights, str] = {
    "oxford": "vgg19_conv.safetensors",
    "torchvision": "vgg19-dcbb9e9d.pth",
}
ALEXNET_FILE = "alexnet_conv.safetensors"

# What torchvision's networks were trained on: RGB in [0, 1], less the mean, over the deviation.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

# Maps and convolutions of each block.
_VGG19_MAPS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
VGG16_MAPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def weights_file(
    name: str,
    *,
    folder: str | Path | None = None,
    purpose: str,
    how: str = "get it by `edgekeeper data get weights`",
) -> Path:
    """Return the weight file ``name`` in ``folder``, by default where `data get` puts it.

    That is the folder ``weights`` of EDGEKEEPER_DATA, or that of the user's cache. ``purpose`` is
    what the file is needed for and ``how`` what to do, for the message. Raises UnavailableError.
    """
    root = os.environ.get(DATA_VARIABLE)
    places = [Path(root) / "weights"] if root else []
    places = [Path(folder)] if folder is not None else [*places, user_cache() / "weights"]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise UnavailableError(
        f"{purpose} needs the file '{name}', and '{places[0]}' does not hold it: {how}, "
        "or give the folder it lies in."
    )


# Damaged bytes make PyTorch's unpickler raise nearly anything.
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or else of a plain PyTorch state dict.

    Raises CheckpointError when the file is damaged or holds anything but tensors by name.
    """
    if path.suffix == ".safetensors":
        try:
            # Copied: they would be the file itself, mapped, and change with it.
            return {name: tensor.clone() for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is not a readable safetensors file.") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(f"'{path}' is not a readable file of PyTorch tensors.") from error
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError(f"'{path}' holds something else than tensors by name.")
    return dict(found)


class Frozen(nn.Module, ABC):
    """Convolutions, ReLUs and poolings of a trained network, up to the last one that is tapped.

    No parameter requires a gradient, and ``train()`` leaves it as it is.
    """

    def __init__(self, layers: Sequence[nn.Module], *, taps: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers[: max(taps) + 1])
        self.taps = tuple(taps)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False
        )

    def train(self, mode: bool = True) -> "Frozen":
        """Itself, in the state of inference whatever ``mode`` says."""
        return super().train(False)

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the first layer was trained on, from RGB (B, 3, H, W) in [0, 1]."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        return (images.to(mean.dtype) - mean) / deviation

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The tapped maps of RGB images (B, 3, H, W) in [0, 1]; values beyond are not clamped.

        Raises InputError for another shape, images too small for the last tap, or images on
        another device than the network.
        """
        self._check(images)
        x = self.normalised(images)  # (B, 3, H, W)
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x)
        return tuple(found)

    def load(self, tensors: Mapping[str, Tensor], *, origin: Path) -> None:
        """Fill the convolutions and freeze them. Raises CheckpointError."""
        wanted = self.features.state_dict(prefix="features.")
        missing = [name for name in wanted if name not in tensors]
        wrong = [n for n in wanted if n in tensors and tensors[n].shape != wanted[n].shape]
        if missing or wrong:
            raise CheckpointError(
                f"'{origin}' is not what {type(self).__name__} needs: missing "
                f"{', '.join(missing[:3]) or 'nothing'}, of another shape "
                f"{', '.join(wrong[:3]) or 'nothing'}."
            )
        self.load_state_dict({name: tensors[name].float() for name in wanted}, assign=True)
        self.requires_grad_(False)
        self.train(False)

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(
                f"{type(self).__name__} takes float RGB images (B, 3, H, W) in [0, 1]; got "
                f"{tuple(images.shape)} of {images.dtype}. Repeat a grey image three times."
            )
        if min(images.shape[2:]) < self.smallest:
            raise InputError(
                f"{type(self).__name__} needs images of at least {self.smallest} pixels a side; "
                f"these are {images.shape[2]}x{images.shape[3]}."
            )
        device = next(self.features.parameters()).device
        if images.device != device:
            raise InputError(
                f"The images are on {images.device} and {type(self).__name__} is on {device}: "
                "move one of them with .to(device)."
            )

    @property
    @abstractmethod
    def smallest(self) -> int:
        """The least height and width in pixels that leave one pixel at the last tap."""


class VGG19(Frozen):
    """The maps of VGG19 at ``layers``, "conv1_1" to "conv5_4", each (B, C, H / 2^k, W / 2^k).

    Args:
        layers: which convolutions; in the order of the network.
        activation: "before_relu" gives what the convolution gives (ESRGAN, SPSR), "after_relu"
            what the ReLU behind it leaves (SRGAN).
        weights: "oxford" takes ``vgg19_conv.safetensors``, the authors' weights rescaled per map
            so that none is much larger than another; conv5_4 is given back its original scale.
            "torchvision" takes torchvision's own ``vgg19-dcbb9e9d.pth``. The two are different
            trainings with different scales: the weight of a loss on one does not hold for the
            other.
        folder: where the file lies; by default the folder ``weights`` of EDGEKEEPER_DATA.

    Raises UnavailableError: the file is not there; CheckpointError: it is not such a file;
    InputError: an unknown layer, activation or kind of weights.
    """

    def __init__(
        self,
        *,
        layers: tuple[str, ...] = ("conv5_4",),
        activation: Literal["before_relu", "after_relu"] = "before_relu",
        weights: VGG19Weights = "oxford",
        folder: str | Path | None = None,
    ) -> None:
        check_choice("kind of VGG19 weights", weights, known=get_args(VGG19Weights))
        check_choice("activation", activation, known=("before_relu", "after_relu"))
        modules, places = vgg_layers(_VGG19_MAPS, pool=partial(nn.MaxPool2d, 2))
        for layer in layers:
            check_choice("layer of VGG19", layer, known=places)
        if not layers or sorted(layers) != list(layers):
            raise InputError(f"Name layers of VGG19 in the network's order; got {layers}.")
        shift = activation == "after_relu"
        super().__init__(modules, taps=[places[layer] + shift for layer in layers])
        path = weights_file(VGG19_FILES[weights], folder=folder, purpose="VGG19")
        tensors = read_weights_file(path)
        self.load(tensors, origin=path)
        self.layers, self.activation, self.weights = layers, activation, weights
        self._poolings = int(layers[-1][4]) - 1
        if weights == "oxford":
            self._load_scales(tensors, origin=path)

    def _load_scales(self, tensors: Mapping[str, Tensor], *, origin: Path) -> None:
        """Take over how the file wants its input, and the original scale of conv5_4."""
        names = ("input.weight", "input.bias", "conv5_4_factor")
        if any(name not in tensors for name in names):
            raise CheckpointError(f"'{origin}' lacks one of {', '.join(names)}.")
        for name in names:
            plain = name.replace(".", "_")
            self.register_buffer(plain, tensors[name].float(), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the first layer was trained on, from RGB (B, 3, H, W) in [0, 1]."""
        if self.weights == "torchvision":
            return super().normalised(images)
        # Values to 150 in bfloat16 are off by half a grey level, so not there.
        with torch.autocast(images.device.type, enabled=False):
            # 3 -> 3, 1 x 1
            weight, bias = self.get_buffer("input_weight"), self.get_buffer("input_bias")
            return functional.conv2d(images.to(weight.dtype), weight, bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = super().forward(images)
        if self.weights == "oxford" and self.layers[-1] == "conv5_4":
            factor = self.get_buffer("conv5_4_factor").view(1, -1, 1, 1)  # one for each map
            return (*found[:-1], found[-1] * factor)
        return found  # (B, 3, H, W)

    @property
    def smallest(self) -> int:
        """The least height and width in pixels that leave one pixel at the last layer."""
        return int(2**self._poolings)


class AlexNet(Frozen):
    """The maps after the five ReLUs of AlexNet: 64, 192, 384, 256 and 256 of them.

    ``folder`` holds ``alexnet_conv.safetensors``, torchvision's convolutions; by default it is
    the folder ``weights`` of EDGEKEEPER_DATA. Raises UnavailableError when the file is not there,
    CheckpointError when it is not such a file.
    """

    def __init__(self, *, folder: str | Path | None = None) -> None:
        super().__init__(_alexnet_layers(), taps=(1, 4, 7, 9, 11))
        path = weights_file(ALEXNET_FILE, folder=folder, purpose="AlexNet")
        self.load(read_weights_file(path), origin=path)

    @property
    def smallest(self) -> int:
        """The least height and width in pixels that leave one pixel at the last ReLU."""
        return 31


def vgg19_names() -> dict[str, int]:
    """Return torchvision's number of each convolution of VGG19: "conv1_1" is ``features.0``."""
    return vgg_layers(_VGG19_MAPS, pool=partial(nn.MaxPool2d, 2))[1]


def vgg_layers(
    blocks: Sequence[tuple[int, int]], *, pool: Callable[[], nn.Module]
) -> tuple[list[nn.Module], dict[str, int]]:
    """Return the layers under torchvision's numbers, and the number of each convolution."""
    layers: list[nn.Module] = []
    places: dict[str, int] = {}
    before = 3
    for block, (maps, count) in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            places[f"conv{block}_{number}"] = len(layers)
            # Not in place: the maps before the ReLU may be tapped.
            layers += [_convolution(before, maps, 3, padding=1), nn.ReLU()]
            before = maps
        layers.append(pool())
    return layers, places


def _alexnet_layers() -> list[nn.Module]:
    return [
        _convolution(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        _convolution(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        _convolution(192, 384, 3, padding=1),
        nn.ReLU(),
        _convolution(384, 256, 3, padding=1),
        nn.ReLU(),
        _convolution(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _convolution(before: int, maps: int, size: int, *, stride: int = 1, padding: int) -> nn.Conv2d:
    """A convolution without values yet: it takes nothing from the random numbers of a training."""
    with torch.device("meta"):
        return nn.Conv2d(before, maps, size, stride=stride, padding=padding)
