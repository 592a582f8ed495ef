"""Weights of the networks and models that losses and metrics compare with, from public origins.

``edgekeeper data get weights`` gets all of them. Each file is checked by size and SHA-256 where
these are known, put into our form where that differs, and then checked by what it computes: a
value that was measured once with a file known to be right.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from edgekeeper.data.catalogue import Remote
from edgekeeper.data.fetch import FetchProgress, fetch
from edgekeeper.data.synthetic import synthetic_image
from edgekeeper.errors import CheckpointError, DataError, check_choice
from edgekeeper.files import make_folder, write_bytes
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.losses import Perceptual
from edgekeeper.metrics import lpips
from edgekeeper.metrics.niqe import NIQE_FILE, niqe
from edgekeeper.metrics.perceptual import HEADS_FILE
from edgekeeper.models.backbones import ALEXNET_FILE, VGG19_FILES, vgg19_names
from edgekeeper.pretrained.published import read_weights

TORCHVISION = "https://download.pytorch.org/models"
LPIPS = "https://github.com/richzhang/PerceptualSimilarity/raw/master"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19"
IQA = "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights"

EXAMPLES = ("ex_ref.png", "ex_p0.png")
"""Two images of LPIPS' authors, between which it is 0.7219 by their own program."""

_OXFORD_MEAN = (103.939, 116.779, 123.68)  # of B, G and R, in 0..255


@dataclass(frozen=True)
class ReferenceWeights:
    """One file that losses or metrics need, and how to get it."""

    file: str
    licence: str
    remote: Remote
    # Makes its tensors of those of ``remote``; without it the file is kept as it is.
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    beside: tuple[Remote, ...] = ()  # files that only the check needs
    value: Callable[[Path], float] | None = None  # computes a number from the folder
    expected: float = 0.0  # what it must be, up to a share
    within: float = 0.0


def _features(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.contiguous() for k, v in tensors.items() if k.startswith("features.")}


def _from_keras(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return Oxford's VGG19 as ``models.backbones.VGG19`` reads it, from Keras' kernels (HWIO)."""
    found: dict[str, Tensor] = {}
    for layer, number in vgg19_names().items():  # "conv1_1" -> 0
        prefix = f"block{layer[4]}_{layer[:4]}{layer[6]}/"
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                kernel = tensor.ndim == 4
                value = tensor.permute(3, 2, 0, 1) if kernel else tensor  # (out, in, h, w)
                found[f"features.{number}.{'weight' if kernel else 'bias'}"] = value.contiguous()
    order = torch.eye(3).flip(0)  # RGB -> BGR
    found["input.weight"] = 255 * order.reshape(3, 3, 1, 1)
    found["input.bias"] = -torch.tensor(_OXFORD_MEAN)
    found["conv5_4_factor"] = torch.ones(512)  # its scale is the original one
    return found


def _lpips_of_examples(folder: Path) -> float:
    reference, other = (to_rgb_tensor(read_image(folder / name)) for name in EXAMPLES)
    return lpips(other, reference, folder=folder).item()


def _niqe_of_leaves(folder: Path) -> float:
    return niqe(synthetic_image(size=300, seed=0, number=0), folder=folder).item()


def _vgg19_of_leaves(folder: Path) -> float:
    one, other = (synthetic_image(size=64, seed=0, number=number) for number in (0, 2))
    return Perceptual(folder=folder)(one, other).item()


REFERENCE: dict[str, ReferenceWeights] = {
    "alexnet": ReferenceWeights(
        ALEXNET_FILE,
        "BSD-3-Clause (torchvision)",
        Remote(
            "alexnet-owt-7be5be79.pth",
            f"{TORCHVISION}/alexnet-owt-7be5be79.pth",
            244_408_911,
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        ),
        convert=_features,
    ),
    "lpips": ReferenceWeights(
        HEADS_FILE,
        "BSD-2-Clause (LPIPS 0.1)",
        Remote(
            "alex.pth",
            f"{LPIPS}/lpips/weights/v0.1/alex.pth",
            6_009,
            "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        ),
        convert=dict,
        beside=tuple(Remote(name, f"{LPIPS}/imgs/{name}") for name in EXAMPLES),
        value=_lpips_of_examples,
        expected=0.7219,
        within=2e-4,
    ),
    "niqe": ReferenceWeights(
        NIQE_FILE,
        "free with acknowledgement (University of Texas at Austin)",
        Remote(
            NIQE_FILE,
            f"{IQA}/niqe_modelparameters.mat",
            8_347,
            "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d",
        ),
        value=_niqe_of_leaves,
        expected=5.850720,
        within=1e-4,
    ),
    "vgg19": ReferenceWeights(
        VGG19_FILES["oxford"],
        "CC BY 4.0 (Visual Geometry Group, Oxford)",
        # Keras publishes an MD5 alone, which is not checked; the value below is.
        Remote(
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            f"{KERAS}/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            80_134_624,
        ),
        convert=_from_keras,
        value=_vgg19_of_leaves,
        expected=21.394,
        within=1e-2,
    ),
    "vgg19_torchvision": ReferenceWeights(
        VGG19_FILES["torchvision"],
        "BSD-3-Clause (torchvision)",
        Remote(
            VGG19_FILES["torchvision"],
            f"{TORCHVISION}/vgg19-dcbb9e9d.pth",
            574_673_361,
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ),
    ),
}
"""By name, in the order in which they are got: the check of LPIPS needs AlexNet."""


def fetch_reference(
    folder: Path, *, names: tuple[str, ...] = (), progress: FetchProgress | None = None
) -> list[str]:
    """Get the files of ``names`` (all of them by default) into ``folder``; return what was checked.

    What is there already is only checked. One that does not compute what it must is an error.
    """
    for name in names:
        check_choice("weight file", name, known=REFERENCE)
    make_folder(folder, error=DataError)
    told = []
    chosen = [name for name in REFERENCE if not names or name in names]
    for number, name in enumerate(chosen, start=1):
        weights = REFERENCE[name]
        if not (folder / weights.file).is_file():
            _get(weights, folder)
        told.append(f"{weights.file}: {_checked(weights, folder)}")
        if progress is not None:
            progress(number, len(chosen), weights.file)
    shutil.rmtree(folder / "downloads", ignore_errors=True)
    return told


def _get(weights: ReferenceWeights, folder: Path) -> None:
    downloaded = fetch(weights.remote, folder / "downloads")
    if weights.convert is None:
        downloaded.replace(folder / weights.file)
        return
    tensors = weights.convert(read_weights(downloaded))
    write_bytes(folder / weights.file, save(tensors), error=DataError)


def _checked(weights: ReferenceWeights, folder: Path) -> str:
    """Return how the file was checked; CheckpointError when it computes something else."""
    known = "SHA-256 of its origin" if weights.remote.sha256 else "size of its origin"
    if weights.value is None:
        return known
    for remote in weights.beside:
        fetch(remote, folder)
    value = weights.value(folder)
    if abs(value - weights.expected) > weights.within * weights.expected:
        raise CheckpointError(
            f"'{folder / weights.file}' computes {value:.6g} where {weights.expected:.6g} is "
            "right. Delete it and get it again."
        )
    return f"{known}; computes {value:.6g} as it must"
