"""Weights of the networks and models that losses and metrics compare with, from public origins.

``edgekeeper data get weights`` gets all of them. Each file is checked by size and SHA-256 where
these are known, put into our form where that differs, and then checked by what it computes: a
value that was measured once with a file known to be right.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from edgekeeper.data.catalogue import Remote
from edgekeeper.data.fetch import FetchProgress, fetch
from edgekeeper.data.synthetic import synthetic_image
from edgekeeper.errors import CheckpointError, DataError, check_choice
from edgekeeper.files import make_folder, read_facts, write_bytes
from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.losses import Perceptual
from edgekeeper.metrics import lpips
from edgekeeper.metrics.niqe import niqe
from edgekeeper.models.backbones import vgg19_names
from edgekeeper.pretrained.published import read_weights

# Two images of LPIPS' authors, between which it is 0.7219 by their own program
EXAMPLES = ("ex_ref.png", "ex_p0.png")
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


_CONVERT: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]
_CONVERT = {"alexnet": _features, "lpips": dict, "vgg19": _from_keras}
_VALUE = {"lpips": _lpips_of_examples, "niqe": _niqe_of_leaves, "vgg19": _vgg19_of_leaves}


def _read() -> Iterator[tuple[str, ReferenceWeights]]:
    for name, facts in read_facts("edgekeeper.pretrained", "reference.toml").items():
        remote = Remote(**facts.pop("remote"))
        beside = tuple(Remote(**one) for one in facts.pop("beside", ()))
        more = {"convert": _CONVERT.get(name), "value": _VALUE.get(name), **facts}
        yield name, ReferenceWeights(remote=remote, beside=beside, **more)


# By name, in the order in which they are got: the check of LPIPS needs AlexNet
REFERENCE: dict[str, ReferenceWeights] = dict(_read())


def fetch_reference(
    folder: Path, *, names: tuple[str, ...] = (), progress: FetchProgress | None = None
) -> list[str]:
    """Get the files of ``names`` (all of them by default) into ``folder``; return what was checked.

    What is there is only checked. Raises CheckpointError: it computes something else; InputError.
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
