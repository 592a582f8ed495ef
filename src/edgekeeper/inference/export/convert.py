"""Networks as ONNX models, made by PyTorch's exporter, and as files of ONNX or OpenVINO."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.models import SRModel
from edgekeeper.models.base import COLOUR_COUNT
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize
from edgekeeper.pretrained.exported import EXPORTED_KEY, import_openvino, openvino_core

OPSET = 18

# The facts that stand by themselves as well, for other programs
SHORT = ("scale", "channels", "value_range", "receptive_field", "overlap", "precision")


def onnx_model(network: SRModel) -> Any:
    """Return the ONNX model of a network: input ``lr``, output ``sr``, batch and sides open.

    Layers keep their names, and a batch normalisation becomes part of the convolution before it.
    Raises InputError: PyTorch's exporter cannot follow the network.
    """
    example = torch.zeros(2, COLOUR_COUNT[network.channels], 24, 28)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"PyTorch cannot write {type(network).__name__} as ONNX: {_reason(error)}"
        ) from error
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # stack traces, with paths of this machine
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of its own parts: deprecations, operators not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first line of the error at the bottom of the exporter's report."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or ["no more is known"]
    return f"{type(error).__name__}: {lines[0]}"


def write(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    """Write an ONNX model and what is known of it, in the format of the file extension."""
    if path.suffix.lower() == ".onnx":
        _write_onnx(path, model, facts=facts)
    else:
        _write_openvino(path, model, facts=facts)


def _write_onnx(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    import onnx

    entries = {EXPORTED_KEY: json.dumps(facts)}
    entries |= {f"{EXPORTED_KEY}.{key}": str(facts[key]) for key in SHORT}
    onnx.helper.set_model_props(model, entries)
    path.write_bytes(model.SerializeToString())


def _write_openvino(path: Path, model: Any, *, facts: Mapping[str, object]) -> None:
    openvino = import_openvino()
    network = openvino_core().read_model(io.BytesIO(model.SerializeToString()))
    network.set_rt_info(json.dumps(facts), [EXPORTED_KEY, "facts"])
    for key in SHORT:
        network.set_rt_info(str(facts[key]), [EXPORTED_KEY, key])
    plain = path.with_suffix(".xml")  # as OpenVINO spells it
    try:
        openvino.save_model(network, str(plain), compress_to_fp16=False)
    except RuntimeError as error:  # of a full disk it does not say more
        raise OSError(f"OpenVINO's writer failed ({error}); is the disk full?") from error
    plain.replace(path)


# ---- Whether a file gives the images of the torch network, at several sizes ----------------------


# Height and width of the LR images that are compared: odd and even, upright and lying
SIZES = ((33, 47), (24, 64), (61, 18))
BOUND = 1e-3  # largest difference of a pixel, and of a gradient's length, of images in [0, 1]
BOUND_INT8_DB = 30.0  # smallest PSNR in dB between the 8-bit network and the float one at each size


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far an exported network is from the torch one.

    pixels, gradients: the largest absolute differences over all sizes.
    psnr: the smallest PSNR in dB over the sizes; inf when the images are equal.
    """

    pixels: float
    gradients: float
    psnr: float


def probe(channels: int, *, height: int, width: int) -> Tensor:
    """Return an image (1, channels, height, width) in [0, 1] with smooth areas, edges and noise."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.rand((1, channels, 6, 6), generator=generator)
    smooth = imresize(coarse, size=(height, width))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    edges = ((rows // 5 + columns // 7) % 2) * 0.4 - 0.2
    noise = 0.1 * torch.rand((1, channels, height, width), generator=generator)
    return (smooth + edges + noise).clamp(0, 1)


@torch.inference_mode()
def _compare(exported: SRModel, original: SRModel) -> Agreement:
    """Return how far the two networks' images are apart at the sizes of ``SIZES``."""
    pixels = gradients = worst = 0.0
    original.eval()
    for height, width in SIZES:
        lr = probe(COLOUR_COUNT[original.channels], height=height, width=width)
        ours, theirs = exported(lr), original(lr)
        if ours.shape != theirs.shape:
            raise CheckpointError(
                f"The exported network makes {tuple(ours.shape)} of an image {tuple(lr.shape)}, "
                f"the original {tuple(theirs.shape)}. No file was left."
            )
        if not bool(torch.isfinite(ours).all()):
            raise CheckpointError("The exported network gives infinite values. No file was left.")
        difference = (ours - theirs).abs()
        pixels = max(pixels, float(difference.max()))
        worst = max(worst, float(difference.double().square().mean()))
        maps = (gradient_map(ours) - gradient_map(theirs)).abs()
        gradients = max(gradients, float(maps.max()))
    psnr = float(-10 * torch.tensor(worst, dtype=torch.float64).log10())
    return Agreement(pixels=pixels, gradients=gradients, psnr=psnr)


def check(
    exported: SRModel, original: SRModel, *, kind: Literal["float", "int8"] = "float"
) -> Agreement:
    """Return how far the two are apart, which is near enough. Raises CheckpointError: it is not."""
    found = _compare(exported, original)
    if kind == "float" and max(found.pixels, found.gradients) > BOUND:
        raise CheckpointError(
            f"The exported network differs from the original by {found.pixels:.2g} in a pixel and "
            f"{found.gradients:.2g} in a gradient; {BOUND:g} is allowed. No file was left."
        )
    if kind == "int8" and found.psnr < BOUND_INT8_DB:
        raise CheckpointError(
            f"The 8-bit network is {found.psnr:.1f} dB from the original on test images; at "
            f"least {BOUND_INT8_DB:g} dB are needed. No file was left: calibrate with more varied "
            "images, or export without --int8."
        )
    return found
