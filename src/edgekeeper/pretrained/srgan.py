"""SRGAN's generator (SRResNet) as three programs publish it.

    Keras       conv2d/conv2d/kernel:0, p_re_lu, ...     github.com/krasserm/super-resolution
    PyTorch     block1.0, block2.conv1, ..., block8.2    github.com/leftthomas/SRGAN, five blocks
    MSRResNet   conv_first, body.0.conv1, ..., conv_hr   BasicSR; before, recon_trunk and HRconv

Keras takes 0..255 and gives 127.5 (tanh + 1); that over 255 is our ``output="tanh"``, as is the
end of the PyTorch one. Keras numbers its layers in the order in which they were made. Its kernels
are (height, width, in, out), its shuffle wants the maps that become one block of pixels apart by
the number of maps, ours next to each other.
"""

import re
from pathlib import Path

from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import MSRResNet, SRModel, SRResNet
from edgekeeper.pretrained.layers import (
    PARTS,
    Tensors,
    channels,
    check_names,
    choose_scale,
    count_blocks,
    fill,
    parts,
)

KERAS_EPSILON = 1e-3  # what its normalisations add to the variance; not in the file
_KERAS = re.compile(r"(conv2d|p_re_lu|batch_normalization(?:_v1)?)(?:_(\d+))?/.*")
_KERAS_PARTS = {
    "conv2d": {"kernel": "weight", "bias": "bias"},
    "p_re_lu": {"alpha": "weight"},
    "batch_normalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}
_PYTORCH_BLOCKS = 5
_AVERAGES = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"  # not in files of before 2018; not used by any network
_TRUNKS = {"body": "conv_hr", "recon_trunk": "HRconv"}


def recognises_keras(tensors: Tensors) -> bool:
    """Return whether these are arrays of SRGAN's generator in Keras."""
    return any(name.startswith("p_re_lu") for name in tensors)


def load_keras(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """The x4 generator with these weights; raises CheckpointError that says what does not fit."""
    scale = choose_scale(scale, found=4, origin=origin)
    kinds: dict[str, list[int]] = {}
    for name in tensors:
        if match := _KERAS.fullmatch(name):
            kinds.setdefault(match[1], []).append(int(match[2] or 0))
    slopes = kinds.get("p_re_lu", [0])
    many = max(slopes) - min(slopes) + 1  # one at the head and two at the end are in no block
    blocks = min(max(0, many - 3), len(tensors))
    names: dict[str, str] = {}
    for kind, layers in _keras_layers(blocks).items():
        if f"{kind}_v1" in kinds:  # as TensorFlow 1.13 calls it
            kind = f"{kind}_v1"
        first = min(kinds.get(kind, [0]))  # not 0 where other networks were made before
        for number, layer in enumerate(layers, start=first):
            theirs = f"{kind}_{number}" if number else kind
            for leaf, part in _KERAS_PARTS[kind.removesuffix("_v1")].items():
                names[f"{theirs}/{theirs}/{leaf}:0"] = f"{layer}.{part}"
    check_names(tensors, names, origin=origin)
    adapted = {name: _from_keras(tensor, ours=names[name]) for name, tensor in tensors.items()}
    width = next(t.shape[:1].numel() for n, t in adapted.items() if names[n] == "head.weight")
    model = SRResNet(
        scale=scale,
        width=max(1, width),
        blocks=blocks,
        bias=True,
        slopes="maps",
        output="tanh",
        epsilon=KERAS_EPSILON,
    )
    fill(model, adapted, names=names, origin=origin)
    return model


def _keras_layers(blocks: int) -> dict[str, list[str]]:
    """Our names of the layers of each kind, in the order in which they run."""
    inner = [f"blocks.{i}" for i in range(blocks)]
    convs = [f"{block}.conv{k}" for block in inner for k in (1, 2)]
    return {
        "conv2d": ["head", *convs, "after_blocks", "upsampler.0", "upsampler.3", "last"],
        "p_re_lu": [
            "activation",
            *(f"{block}.activation" for block in inner),
            "upsampler.2",
            "upsampler.5",
        ],
        "batch_normalization": [
            *(f"{block}.norm{k}" for block in inner for k in (1, 2)),
            "after_norm",
        ],
    }


def _from_keras(tensor: Tensor, *, ours: str) -> Tensor:
    """Return the tensor as PyTorch orders it."""
    if tensor.ndim == 4:
        tensor = tensor.permute(3, 2, 0, 1)
    elif tensor.ndim == 3:  # slopes: height, width, maps
        tensor = tensor.flatten()
    shuffled = ours.startswith(("upsampler.0.", "upsampler.3."))
    if shuffled and tensor.ndim and tensor.shape[0] % 4 == 0:
        maps = tensor.shape[0] // 4
        apart = tensor.reshape(4, maps, *tensor.shape[1:])
        tensor = apart.transpose(0, 1).reshape(tensor.shape)
    return tensor


def recognises_pytorch(tensors: Tensors) -> bool:
    """Return whether these are tensors of SRGAN's generator in PyTorch."""
    return "block1.0.weight" in tensors and "block8.0.conv.weight" in tensors


def load_pytorch(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """The generator with these weights; raises CheckpointError that says what does not fit."""
    times = max(1, sum(f"block8.{n}.conv.weight" in tensors for n in range(4)))
    if times > 2:
        raise CheckpointError(
            f"'{origin}' is an SRGAN that enlarges by {2**times}; edgekeeper has 2, 3 and 4."
        )
    convs = {"block1.0": "head", "block7.0": "after_blocks", f"block8.{times}": "last"}
    norms, slopes = {"block7.1": "after_norm"}, {"block1.1": "activation"}
    for i in range(_PYTORCH_BLOCKS):
        for k in (1, 2):
            convs[f"block{i + 2}.conv{k}"] = f"blocks.{i}.conv{k}"
            norms[f"block{i + 2}.bn{k}"] = f"blocks.{i}.norm{k}"
        slopes[f"block{i + 2}.prelu"] = f"blocks.{i}.activation"
    for n in range(times):
        convs[f"block8.{n}.conv"] = f"upsampler.{3 * n}"
        slopes[f"block8.{n}.prelu"] = f"upsampler.{3 * n + 2}"
    names = parts(convs | norms) | {f"{t}.weight": f"{o}.weight" for t, o in slopes.items()}
    for theirs, ours in norms.items():
        names |= {f"{theirs}.{part}": f"{ours}.{part}" for part in _AVERAGES}
    counters = {f"{theirs}.{_COUNTER}" for theirs in norms}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in counters}
    check_names(tensors, names, origin=origin)
    model = SRResNet(
        scale=choose_scale(scale, found=2**times, origin=origin),
        width=channels(tensors, "block1.0", network="SRGAN", origin=origin)[0],
        blocks=_PYTORCH_BLOCKS,
        bias=True,
        output="tanh",
    )
    fill(model, tensors, names=names, origin=origin)
    return model


def recognises_msrresnet(tensors: Tensors) -> bool:
    """Return whether these are tensors of an MSRResNet."""
    return "upconv1.weight" in tensors and any(f"{t}.0.conv1.weight" in tensors for t in _TRUNKS)


def load_msrresnet(tensors: Tensors, *, scale: int | None, origin: Path) -> SRModel:
    """The MSRResNet with these weights; raises CheckpointError that says what does not fit."""
    trunk = "recon_trunk" if any(name.startswith("recon_trunk.") for name in tensors) else "body"
    blocks = max(1, count_blocks(tensors, pattern=f"{trunk}.{{i}}."))
    layers = {"conv_first": "head", _TRUNKS[trunk]: "refine", "conv_last": "last"}
    layers |= {f"{trunk}.{i}.conv{k}": f"blocks.{i}.conv{k}" for i in range(blocks) for k in (1, 2)}
    layers["upconv1"] = "upsampler.0"
    if twice := any(f"upconv2.{part}" in tensors for part in PARTS):
        layers["upconv2"] = "upsampler.3"
    names = parts(layers)
    check_names(tensors, names, origin=origin)
    enlarged, width = channels(tensors, "upconv1", network="an MSRResNet", origin=origin)
    found = 4 if twice else (enlarged / width) ** 0.5
    scale = choose_scale(scale, found=found, origin=origin)
    model = MSRResNet(scale=scale, width=width, blocks=blocks)
    fill(model, tensors, names=names, origin=origin)
    return model
