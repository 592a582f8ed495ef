"""Eight bits: ONNX Runtime's static quantisation, and what it costs on images it has not seen.

A folder of HR images is split: on LR images made of some the range of each value is found, on the
others the loss is measured, with the finished file.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.data.degrade import crop_to_multiple, make_lr
from edgekeeper.errors import InputError
from edgekeeper.image import list_images, read_image, to_rgb_tensor
from edgekeeper.inference.network import infer
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.structure import gv_gap
from edgekeeper.models import SRModel
from edgekeeper.ops.color import rgb_to_ycbcr
from edgekeeper.pretrained.exported import Runtime

Keep = Literal["none", "first", "ends"]

IMAGES = 32  # at most so many images of a folder are used, evenly spread over its names
_SIDE = 256  # the middle of an image that is used, in HR pixels a side
_LEAST = 64  # HR pixels a side that an image must have


@dataclass(frozen=True, kw_only=True)
class Split:
    """HR images (1, 3, H, W): those that calibrate, and others that measure."""

    calibrate: list[Tensor]
    measure: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class QuantisationLoss:
    """Means over ``images`` images that did not calibrate, on luma with the protocol "y_matlab".

    calibrated_on: how many other images gave the ranges.
    psnr_float, psnr_int8: against the original image, in dB.
    psnr_between: of the int8 result against the float one, in dB.
    gv_gap_float, gv_gap_int8: gradient-variance gap against the original image.
    """

    calibrated_on: int
    images: int
    psnr_float: float
    psnr_int8: float
    psnr_between: float
    gv_gap_float: float
    gv_gap_int8: float

    @property
    def db(self) -> float:
        """What int8 costs, in dB; negative when it gains."""
        return self.psnr_float - self.psnr_int8

    def to_json(self) -> dict[str, float]:
        """Return the fields and the loss, rounded."""
        numbers = {key: round(value, 5) for key, value in asdict(self).items()}
        return {**numbers, "loss_db": round(self.db, 5)}


# ---- Images ------------------------------------------------------------------------------------


def split_images(folder: Path, *, scale: int) -> Split:
    """Return the middles of at most ``IMAGES`` images of a folder; every third of them measures.

    Of a single image one half calibrates and the other measures.
    Raises InputError: no such folder, or no image in it that is large enough.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}' with images to calibrate on.")
    files = list_images(folder)
    step = max(1, -(-len(files) // IMAGES))
    middles = [(file, _middle(_read(file), scale=scale)) for file in files[::step]]
    found = [(file, crop) for file, crop in middles if _is_large(crop)]
    crops = [crop for _, crop in found]
    if len(found) == 1:
        image = _read(found[0][0])
        longer = -1 if image.shape[-1] >= image.shape[-2] else -2
        halves = (_middle(half, scale=scale) for half in image.tensor_split(2, dim=longer))
        crops = [half for half in halves if _is_large(half)]
    if len(crops) < 2:
        raise InputError(
            f"The folder '{folder}' must hold two images of at least {_LEAST} x {_LEAST} pixels, "
            f"or one of {2 * _LEAST} x {_LEAST}: some calibrate, others measure the loss."
        )
    measure = crops[1::3]
    return Split(calibrate=[crop for n, crop in enumerate(crops) if n % 3 != 1], measure=measure)


def _read(file: Path) -> Tensor:
    return to_rgb_tensor(read_image(file))


def _middle(image: Tensor, *, scale: int) -> Tensor:
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[-2:])
    middle = image[..., top : top + _SIDE, left : left + _SIDE]
    return crop_to_multiple(middle, scale).clone()  # without the rest of the image


def _is_large(image: Tensor) -> bool:
    return min(image.shape[-2:]) >= _LEAST


# ---- Quantisation ------------------------------------------------------------------------------


def layers(model: Any, network: SRModel) -> dict[str, str]:
    """Return the network's convolutions in the ONNX model, in their order: layers by node.

    Fixed convolutions (interpolation, differences) are none of them.
    """
    learnt = dict(network.named_parameters())
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return {
        node.name: node.input[1].removesuffix(".weight")
        for node in convolutions
        if node.input[1] in learnt
    }


def float_layers(model: Any, network: SRModel, *, keep: Keep) -> list[str]:
    """Return the layers that stay in float: none, the first, or the first and the last.

    Raises InputError: that would be all.
    """
    names = list(dict.fromkeys(layers(model, network).values()))
    kept = {"none": [], "first": names[:1], "ends": [*names[:1], *names[-1:]]}[keep]
    if len(set(kept)) == len(names):
        raise InputError(f"With keep '{keep}' no layer of the network is left to round.")
    return kept


def quantised(
    model: Any, network: SRModel, *, images: Sequence[Tensor], runtime: Runtime, kept: Sequence[str]
) -> Any:
    """Return the ONNX model with all convolutions but ``kept`` in int8.

    ``images``: HR images (1, 3, H, W) in [0, 1] that calibrate.

    Values are uint8 with an offset, in the range that was seen; weights are int8 with a step for
    each output, from -64 to 64: processors without VNNI add two products in int16, where
    2 · 255 · 64 fits and 2 · 255 · 127 is cut off. ONNX Runtime is fast only where what leaves a
    layer is rounded too; OpenVINO loses less without.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(Path(folder) / name) for name in ("float.onnx", "int8.onnx"))
        quant_pre_process(model, source, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            source,
            target,
            _Reader(network, images),
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=[n for n, name in layers(model, network).items() if name not in kept],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Conv"] if runtime == "openvino" else []
            },
        )
        return onnx.load(target)


class _Reader:
    """What ONNX Runtime asks for one calibration input after the other."""

    def __init__(self, network: SRModel, images: Sequence[Tensor]) -> None:
        self._network, self._left = network, iter(images)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        hr = next(self._left, None)
        if hr is None:
            return None
        lr = make_lr(hr, scale=self._network.scale, kernel="matlab_uint8")
        lr = rgb_to_ycbcr(lr)[:, :1] if self._network.channels == "y" else lr
        return {"lr": lr.numpy()}


# ---- Loss --------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_loss(exported: SRModel, original: SRModel, *, split: Split) -> QuantisationLoss:
    """Return what the int8 network loses against the float one on the images that measure."""
    rows: list[dict[str, float]] = []
    scale = original.scale
    for hr in split.measure:
        lr = make_lr(hr, scale=scale, kernel="matlab_uint8")
        int8, plain = infer(exported, lr), infer(original, lr)
        rows.append(
            {
                "psnr_float": psnr(plain, hr, scale=scale).item(),
                "psnr_int8": psnr(int8, hr, scale=scale).item(),
                "psnr_between": min(psnr(int8, plain, scale=scale).item(), 100.0),
                "gv_gap_float": gv_gap(plain, hr, scale=scale).item(),
                "gv_gap_int8": gv_gap(int8, hr, scale=scale).item(),
            }
        )
    means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return QuantisationLoss(calibrated_on=len(split.calibrate), images=len(rows), **means)
