"""SRGAN's generator (SRResNet) as three programs publish it, and SFTGAN's as BasicSR does.

    Keras       conv2d/conv2d/kernel:0, p_re_lu, ...     github.com/krasserm/super-resolution
    PyTorch     block1.0, block2.conv1, ..., block8.2    github.com/leftthomas/SRGAN, five blocks
    MSRResNet   conv_first, body.0.conv1, ..., conv_hr   BasicSR; before, recon_trunk and HRconv
    SFTGAN      conv0, CondNet.0 to 8, sft_branch.i.sft0, sft_branch.i.conv0, ..., HR_branch.0, 3,
                6, 8 with pixel shuffles ("pytorch"), or 1, 4, 6, 8 ("torch"); x4

Keras takes 0..255 and gives 127.5 (tanh + 1); that over 255 is our ``output="tanh"``, as is the
end of the PyTorch one. Keras numbers its layers in the order in which they were made. Its kernels
are (height, width, in, out), its shuffle wants the maps that become one block of pixels apart by
the number of maps, ours next to each other.
"""

import re

from torch import Tensor

from edgekeeper.errors import CheckpointError
from edgekeeper.models import SFTGAN, MSRResNet, SRResNet
from edgekeeper.models.sftgan import CATEGORIES, Variant
from edgekeeper.pretrained.layers import LAYERS, Plan, Published, PublishedFormat
from edgekeeper.spec import spec

KERAS_EPSILON = 1e-3  # what its normalisations add to the variance; not in the file
_KERAS = re.compile(r"(conv2d|p_re_lu|batch_normalization(?:_v1)?)(?:_(\d+))?/.*")
_PYTORCH_BLOCKS = 5


def read_keras(file: Published) -> Plan:
    """Return the plan of the x4 generator in Keras."""
    scale = file.scale(4)
    kinds: dict[str, list[int]] = {}
    for name in file.tensors:
        if match := _KERAS.fullmatch(name):
            kinds.setdefault(match[1], []).append(int(match[2] or 0))
    slopes = kinds.get("p_re_lu", [0])
    many = max(slopes) - min(slopes) + 1  # one at the head and two at the end are in no block
    blocks = max(1, min(many - 3, len(file.tensors)))
    names: dict[str, str] = {}
    for kind, layers in _keras_layers(blocks).items():
        if f"{kind}_v1" in kinds:  # as TensorFlow 1.13 calls it
            kind = f"{kind}_v1"
        first = min(kinds.get(kind, [0]))  # not 0 where other networks were made before
        for number, layer in enumerate(layers, start=first):
            theirs = f"{kind}_{number}" if number else kind
            for leaf, part in LAYERS[f"keras_{kind.removesuffix('_v1')}"].items():
                names[f"{layer}.{part}"] = f"{theirs}/{theirs}/{leaf}:0"
    head = file.tensors.get(names["head.weight"])  # height, width, in, out
    network = spec(
        SRResNet,
        scale=scale,
        width=max(1, head.shape[-1]) if head is not None and head.ndim == 4 else 1,
        blocks=blocks,
        bias=True,
        slopes="maps",
        output="tanh",
        epsilon=KERAS_EPSILON,
    )
    return Plan(network, names, adapt=_from_keras)


def _keras_layers(blocks: int) -> dict[str, list[str]]:
    """Our names of the layers of each kind, in the order in which they run."""
    inner = [f"blocks.{i}" for i in range(blocks)]
    convs = [f"{block}.conv{k}" for block in inner for k in (1, 2)]
    norms = [f"{block}.norm{k}" for block in inner for k in (1, 2)]
    slopes = [f"{block}.activation" for block in inner]
    return {
        "conv2d": ["head", *convs, "after_blocks", "upsampler.0", "upsampler.3", "last"],
        "p_re_lu": ["activation", *slopes, "upsampler.2", "upsampler.5"],
        "batch_normalization": [*norms, "after_norm"],
    }


def _from_keras(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 4:
        tensor = tensor.permute(3, 2, 0, 1)  # (out, in, height, width)
    elif tensor.ndim == 3:  # slopes: height, width, maps
        tensor = tensor.flatten()
    shuffled = name.startswith(("upsampler.0.", "upsampler.3."))
    if shuffled and tensor.ndim and tensor.shape[0] % 4 == 0:
        maps = tensor.shape[0] // 4
        apart = tensor.reshape(4, maps, *tensor.shape[1:])
        tensor = apart.transpose(0, 1).reshape(tensor.shape)
    return tensor


def _read_pytorch(file: Published) -> Plan:
    times = max(1, sum(f"block8.{n}.conv.weight" in file.tensors for n in range(4)))
    if times > 2:
        raise file.error(f"is an SRGAN that enlarges by {2**times}; edgekeeper has 2, 3 and 4.")
    width, _ = file.channels("block1.0")
    network = spec(
        SRResNet,
        scale=file.scale(2**times),
        width=width,
        blocks=_PYTORCH_BLOCKS,
        bias=True,
        output="tanh",
    )
    return Plan(network, LAYERS["srgan_pytorch"] | {"last": f"block8.{times}"})


def read_msrresnet(file: Published) -> Plan:
    """Return the plan of an MSRResNet."""
    before = any(name.startswith("recon_trunk.") for name in file.tensors)
    trunk, refine = ("recon_trunk", "HRconv") if before else ("body", "conv_hr")
    enlarged, width = file.channels("upconv1")
    twice = any(f"upconv2.{part}" in file.tensors for part in ("weight", "bias"))
    network = spec(
        MSRResNet,
        scale=file.scale(4 if twice else (enlarged / width) ** 0.5),
        width=width,
        blocks=max(1, file.count(f"{trunk}.{{i}}.")),
    )
    layers = {
        "head": "conv_first",
        "blocks.{i}.conv{k}": f"{trunk}.{{i}}.conv{{k}}",
        "upsampler.0": "upconv1",
        "upsampler.3": "upconv2",
        "refine": refine,
        "last": "conv_last",
    }
    return Plan(network, layers)


def read_sftgan(file: Published) -> Plan:
    """Return the plan of an SFTGAN. Raises CheckpointError."""
    scale = file.scale(4)
    (width, _), (condition, _) = file.channels("conv0"), file.channels("CondNet.8")
    hidden, _ = file.channels("CondNet.0")
    kernel = tuple(file.tensors["CondNet.0.weight"].shape)
    expected = (hidden, len(CATEGORIES), 4, 4)
    if kernel != expected:
        raise CheckpointError(
            f"'{file.origin}': CondNet.0.weight is {kernel}; an SFTGAN for x4 has {expected} there."
        )
    blocks = file.count("sft_branch.{i}.conv0")
    variant: Variant = "torch" if "HR_branch.1.weight" in file.tensors else "pytorch"
    end = {
        "last_sft.scale.0": f"sft_branch.{blocks}.SFT_scale_conv0",
        "last_sft.scale.2": f"sft_branch.{blocks}.SFT_scale_conv1",
        "last_sft.shift.0": f"sft_branch.{blocks}.SFT_shift_conv0",
        "last_sft.shift.2": f"sft_branch.{blocks}.SFT_shift_conv1",
        "after_blocks": f"sft_branch.{blocks + 1}",
    }
    network = spec(
        SFTGAN,
        scale=scale,
        width=width,
        blocks=blocks,
        condition=condition,
        hidden=hidden,
        variant=variant,
    )
    return Plan(network, LAYERS["sftgan"] | end)


KERAS_SRGAN = PublishedFormat("SRGAN in Keras", (r"p_re_lu",), read_keras)
PYTORCH = PublishedFormat(
    "SRGAN in PyTorch", (r"block1\.0\.weight", r"block8\.0\.conv\.weight"), _read_pytorch
)
MSRRESNET = PublishedFormat(
    "MSRResNet", (r"upconv1\.weight", r"(body|recon_trunk)\.0\.conv1\.weight"), read_msrresnet
)
SFTGAN_FORMAT = PublishedFormat("SFTGAN", (r"CondNet\.0\.weight", r"sft_branch\."), read_sftgan)
