"""What networks and folders of results make of an image: where figures get their images from.

The only part of the figures that runs networks, or reads files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from edgekeeper.data.catalogue import names
from edgekeeper.data.degrade import crop_to_multiple, make_lr
from edgekeeper.data.pairs import load_pairs
from edgekeeper.errors import DataError, InputError, did_you_mean
from edgekeeper.evaluation.cost import GradientNetwork
from edgekeeper.evaluation.evaluate import result_files
from edgekeeper.figures.rows import Panel
from edgekeeper.image import READ_SUFFIXES, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.models import SRModel
from edgekeeper.models.base import in_evaluation
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.zoo import load


@dataclass(frozen=True)
class Sample:
    """An image to show: HR (1, 3, H, W), its LR, its name, and its set or nothing."""

    name: str
    set_name: str
    scale: int
    hr: Tensor
    lr: Tensor

    def bicubic(self) -> Tensor:
        """LR interpolated, rounded as MATLAB does on uint8 images: the row of every table."""
        return imresize(self.lr, scale=self.scale, boundary="replicate", quantise="uint8")


@dataclass(frozen=True)
class Subject:
    """A network, a folder of results, a result file, or the word "bicubic", under its label."""

    label: str
    source: SRModel | Path | str


@runtime_checkable
class BranchedNetwork(Protocol):
    """A network whose image can also be had without its gradient branch."""

    def sr_branch_only(self, lr: Tensor) -> Tensor:
        """Return the SR batch with nothing from the gradient branch."""


class _WithoutBranch(SRModel):
    """A network with its gradient branch switched off."""

    def __init__(self, model: SRModel, branched: BranchedNetwork) -> None:
        super().__init__()
        self.model = model  # so that it follows into evaluation mode
        self.scale, self.channels = model.scale, model.channels
        self.receptive_field = model.receptive_field
        self._forward = branched.sr_branch_only

    def forward(self, lr: Tensor) -> Tensor:
        return self._forward(lr)


def read_sample(image: str, *, scale: int, data: str | Path | None = None) -> Sample:
    """Return the image of a file, shrunk, or of a set: ``"set14/comic"``. Raises InputError."""
    set_name, _, name = image.replace("\\", "/").rpartition("/")
    if Path(image).is_file() or set_name.lower() not in names():
        hr = crop_to_multiple(to_rgb_tensor(read_image(image)), scale)
        lr = make_lr(hr, scale=scale, kernel="matlab_uint8")
        return Sample(Path(image).stem, "", scale, hr, lr)
    if data is None:
        raise InputError(
            f"'{image}' is an image of a set: give the folder of the sets with --data, or set "
            "EDGEKEEPER_DATA."
        )
    pairs = {pair.name: pair for pair in load_pairs(set_name, scale=scale, root=data)}
    if name not in pairs:
        hint = did_you_mean(name, pairs)
        raise InputError(f"{set_name} has no image '{name}' at scale {scale}.{hint}")
    return Sample(name, set_name.lower(), scale, pairs[name].hr(), pairs[name].lr())


def open_subject(text: str, *, label: str) -> Subject:
    """Return the subject that ``text`` names: "bicubic", a folder, an image file, or a network."""
    path = Path(text)
    if text == "bicubic":
        return Subject(label, text)
    if path.is_dir() or path.suffix.lower() in READ_SUFFIXES:
        return Subject(label, path)
    return Subject(label, load(text))


def result(subject: Subject, sample: Sample) -> Panel | None:
    """What the subject makes, or has made, of an image; None when its folder has no such result.

    Raises InputError for a network of another scale, DataError when several files fit.
    """
    source = subject.source
    if isinstance(source, SRModel):
        _check_scale(subject, source, sample)
        return Panel(subject.label, infer(source, sample.lr))
    if source == "bicubic":
        return Panel(subject.label, sample.bicubic())
    file = Path(source)
    if file.is_dir():
        name, scale = sample.name, sample.scale
        try:
            file = result_files(file, set_name=sample.set_name, names=[name], scale=scale)[name]
        except DataError as error:
            if "has no file" in str(error):
                return None
            raise
    return Panel(subject.label, to_rgb_tensor(read_image(file)))


def gradient_output(subject: Subject, sample: Sample) -> Panel:
    """Return the gradient map (1, 1 or 3, H, W) that the network's branch predicts, not clamped."""
    model = subject.source
    if not isinstance(model, SRModel) or not isinstance(model, GradientNetwork):
        raise _no_branch(subject, "with_gradient")
    _check_scale(subject, model, sample)
    lr = rgb_to_y(sample.lr) if model.channels == "y" else sample.lr
    model = in_evaluation(model)
    assert isinstance(model, GradientNetwork)
    with torch.inference_mode():
        return Panel(f"{subject.label}: branch", model.with_gradient(lr).gradient.float())


def without_branch(subject: Subject) -> Subject:
    """Return the subject's network with its gradient branch switched off, under the same label."""
    model = subject.source
    if not isinstance(model, SRModel) or not isinstance(model, BranchedNetwork):
        raise _no_branch(subject, "sr_branch_only")
    return Subject(subject.label, _WithoutBranch(model, model))


def _no_branch(subject: Subject, method: str) -> InputError:
    source = subject.source
    what = type(source).__name__ if isinstance(source, SRModel) else "not a network"
    return InputError(
        f"'{subject.label}' ({what}) has no gradient branch that serves here: this figure takes "
        f"networks with a method {method}, such as SPSR, DGGGAN or any in a GradientBranch."
    )


def _check_scale(subject: Subject, model: SRModel, sample: Sample) -> None:
    if model.scale != sample.scale:
        raise InputError(
            f"The network '{subject.label}' enlarges by {model.scale}, not {sample.scale}; give "
            f"--scale {model.scale} or another network."
        )
