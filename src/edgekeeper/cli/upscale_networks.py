"""The networks that ``edgekeeper upscale`` runs, of what was given for them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekeeper.errors import CheckpointError, InputError, UnavailableError

if TYPE_CHECKING:
    from edgekeeper.models import SRModel
    from edgekeeper.networks import Style
    from edgekeeper.upscaling import Choice, Networks

EXPORTED = (".onnx", ".xml")
Runtime = Literal["torch", "onnx", "openvino"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for: a network or a kind of those that ship, and how to run it.

    Attributes:
        model: a name that ships or a file; None: those that ship with ``style``.
        factor: the enlargement asked for, where a file does not say what it is for.
        runtime: None: what the file needs.
    """

    model: str | None
    style: "Style" = "faithful"
    factor: float | None = None
    runtime: Runtime | None = None
    precision: "Choice" = "auto"
    threads: int | None = None
    device: str = "cpu"

    @property
    def is_exported(self) -> bool:
        """Whether the model is a file of ONNX Runtime or OpenVINO."""
        return self.model is not None and Path(self.model).suffix.lower() in EXPORTED

    @property
    def runs_in_torch(self) -> bool:
        """Whether PyTorch computes, so that its device and precision can be chosen."""
        return not self.is_exported and self.runtime in (None, "torch")

    @property
    def precision_of_runtime(self) -> Literal["float32", "bfloat16"] | None:
        """The precision of what runs outside PyTorch, by default its own; None inside."""
        if self.runs_in_torch:
            return None
        return "bfloat16" if self.precision == "bfloat16" else "float32"


def networks_for(wanted: Wanted) -> "Networks":
    """The networks to choose from, on their device.

    Raises:
        InputError: no such network, or it cannot be run as asked.
        CheckpointError: a file holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    from edgekeeper.networks import FACTORS, default_name
    from edgekeeper.upscaling import remembered

    if wanted.threads is not None:
        import torch

        torch.set_num_threads(wanted.threads)
    if not wanted.runs_in_torch and wanted.device not in ("auto", "cpu"):
        raise InputError(f"ONNX Runtime and OpenVINO compute on the CPU, not on {wanted.device}.")
    if wanted.model is not None:
        model = _run_as_asked(wanted.model, wanted)
        return remembered(lambda factor: model, factors=(model.scale,))
    return remembered(
        lambda factor: _run_as_asked(default_name(factor, style=wanted.style), wanted),
        factors=FACTORS[wanted.style],
    )


def load_network(name_or_file: str, *, factor: float | None = None) -> "SRModel":
    """The network of a name that ships, or of a file of any kind that ``networks.load`` takes.

    ``factor`` is the enlargement asked for, tried where a file does not say its own.

    Raises:
        InputError: no such name or file. CheckpointError: it holds no network that is known.
        UnavailableError: an extra is needed; it is named.
    """
    from edgekeeper.networks import load

    # A file that says its scale is right about it; the one asked for is for those that do not.
    nearest = None if factor is None else min(4, max(2, math.ceil(factor)))
    first, second = (nearest, None) if nearest == factor else (None, nearest)
    try:
        return load(name_or_file, scale=first)
    except (CheckpointError, UnavailableError) as error:
        try:
            return load(name_or_file, scale=second)
        except (CheckpointError, UnavailableError):
            raise error from None


def _run_as_asked(name_or_file: str, wanted: Wanted) -> "SRModel":
    """The network on its device or in its runtime."""
    from edgekeeper.cli.options import chosen_device
    from edgekeeper.networks import find, is_own

    if wanted.runs_in_torch:
        model = load_network(name_or_file, factor=wanted.factor)
        return model.to(chosen_device(wanted.device))
    precision = wanted.precision_of_runtime or "float32"
    path = find(name_or_file)
    if wanted.is_exported:
        from edgekeeper.runtime import SUFFIXES, load_exported

        needs = SUFFIXES[path.suffix.lower()]
        if wanted.runtime not in (None, needs):
            raise InputError(f"'{path}' is a file for {needs}; leave --runtime away.")
        return load_exported(path, threads=wanted.threads, precision=precision)
    from edgekeeper.export import with_runtime

    assert wanted.runtime in ("onnx", "openvino")
    source = path if is_own(path) else load_network(name_or_file, factor=wanted.factor)
    return with_runtime(source, runtime=wanted.runtime, precision=precision, threads=wanted.threads)
