"""``edgekeeper.upscale``: the one call, for images as Python programs hold them."""

import copy
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.image import Image, read_image
from edgekeeper.inference import Request, networks_for, upscale_image
from edgekeeper.inference.categories import Categories
from edgekeeper.inference.network import Choice
from edgekeeper.models import SRModel
from edgekeeper.ops.check import check_images
from edgekeeper.pretrained.zoo import Networks, Style, find_device

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    InMemory = TypeVar("InMemory", Tensor, NDArray[Any], PILImage)

Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""An image file: its path, its bytes, or an open binary file."""


class UpscaleOptions(TypedDict, total=False):
    """Fields of ``Request`` that ``edgekeeper.upscale`` takes."""

    scale: float | None
    model: str | Path | SRModel | Networks | None
    style: Style
    strength: float | None
    sharpness: float | None
    guard: bool
    runtime: Literal["auto", "torch", "onnx", "openvino"]
    precision: Choice
    tile: int | Literal["auto"]
    categories: Categories | None


@overload
def upscale(
    image: "InMemory", *, device: str | torch.device = "auto", **options: Unpack[UpscaleOptions]
) -> "InMemory": ...


@overload
def upscale(
    image: Encoded | Image,
    *,
    device: str | torch.device = "auto",
    **options: Unpack[UpscaleOptions],
) -> Image: ...


def upscale(
    image: "Encoded | Image | Tensor | NDArray[Any] | PILImage",
    *,
    device: str | torch.device = "auto",
    **options: Unpack[UpscaleOptions],
) -> "Image | Tensor | NDArray[Any] | PILImage":
    """Return the image ``scale`` times as large, of the kind that was given.

    Computed in tiles, so that memory holds the image, the result and little more; nothing is
    differentiated. Threads may call it at the same time, with one network too.
    Of an animation it is the first frame; ``edgekeeper.inference.upscale_file`` makes all.

    Args:
        image: a file (path, bytes, open binary file) gives an ``Image``, as an ``Image`` does. A
            Pillow image, a NumPy array (H, W) or (H, W, C) of uint8, uint16 or floats, and a float
            tensor (B, C, H, W) or (C, H, W) give their like, a tensor on its device. C is 1 to 4:
            grey or RGB, then alpha. Floats lie in [0, 1].
        options: as below, each by its name.
        scale: any positive factor; by default the network's own, or 4. What networks do not reach
            exactly is made by several passes and exact bicubic interpolation.
        model: a network, the name of one that ships, or a network file.
        style: by which the networks that ship are chosen when none is named. "auto" is the faithful
            ones, mixed with the one that restores as far as the image looks damaged.
        strength: how far "auto", "texture" and "restore" restore, 0 to 1.
        sharpness: 0 to 1, sharpens the result of any network.
        guard: takes the faithful result where the texture of the style "texture", or of a network
            that is named or given, is an artifact.
        runtime: what runs the network. "auto": OpenVINO or ONNX Runtime for a network that
            ships, where installed and proved near enough to PyTorch on the image; else what the
            file is for.
        device: "auto" takes an accelerator where there is one, and leaves a network that is given
            where it is; elsewhere a copy of that is run.
        precision: "auto" takes bfloat16 where it is fast and good enough on the image.
        tile: the side of a tile of the image.
        categories: for SFTGAN, what can be seen: the name of one category that is everywhere, the
            file of a map, or a ``CategoryMap``.

    Raises InputError: an argument is not as above, or the result does not fit into memory.
    ImageError: the file cannot be read, or a map does not fit. CheckpointError, UnavailableError:
    of a network file.
    """
    unknown = options.keys() - UpscaleOptions.__annotations__
    if unknown:
        raise TypeError(f"upscale() got an unexpected keyword argument '{min(unknown)}'")
    options.setdefault("precision", "auto")
    request = Request(device=str(device), **options)
    request = replace(request, model=_networks(request))
    if isinstance(image, Tensor):
        return _tensor(image, request)
    if isinstance(image, np.ndarray):
        return _made(Image.from_numpy(image), request).to_numpy().astype(image.dtype, copy=False)
    pil = sys.modules.get("PIL.Image")  # whoever has a Pillow image has imported it
    if pil is not None and isinstance(image, pil.Image):
        large = _made(Image.from_pil(image), request).to_pil()
        of_old_colours = {"transparency"} | ({"icc_profile"} if image.mode == "CMYK" else set())
        large.info = {k: v for k, v in image.info.items() if k not in of_old_colours}
        return large
    if not isinstance(image, Image):
        image = read_image(_encoded(image))
    return _made(image, request)


def _networks(request: Request) -> Networks:
    """Return the networks to choose from; one that is given is put on the device."""
    model, device = request.model, request.device
    if isinstance(model, Networks) and request.guard:
        raise InputError("A guard goes with one network, not with several that are given.")
    if isinstance(model, SRModel) and request.runtime in ("auto", "torch"):
        there = "cpu" if device == "auto" else find_device(device)
        on_device = model if device == "auto" else _on_device(model, torch.device(there))
        request = replace(request, model=on_device, device=there)
    return networks_for(request)


def _on_device(model: SRModel, device: torch.device) -> SRModel:
    """Return the network on the device; a copy, unless it is there."""
    there = next(iter(model.parameters()), torch.empty(0)).device
    same = there.type == device.type and device.index in (None, there.index)
    return model if same else copy.deepcopy(model).to(device)


def _made(image: Image, request: Request) -> Image:
    made = upscale_image(image, request).image
    assert made is not None
    return made


def _encoded(image: object) -> str | Path | bytes:
    """Return what ``read_image`` takes of an image file."""
    if isinstance(image, str):
        return image
    if isinstance(image, os.PathLike):
        return Path(image)
    try:
        data = image.read() if hasattr(image, "read") else image
    except (OSError, ValueError) as error:  # closed, or opened for writing
        raise InputError(f"The file cannot be read ({error}); open it with mode 'rb'.") from error
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, str):
        raise InputError("The file was opened as text; open it with mode 'rb'.")
    raise InputError(
        "upscale takes the path of a file, the bytes of one, an open binary file, an "
        "edgekeeper.Image, a Pillow image, a NumPy array (H, W) or (H, W, C), or a tensor "
        f"(B, C, H, W); got one of type {type(image).__name__}."
    )


def _tensor(batch: Tensor, request: Request) -> Tensor:
    """Return the batch (B, C, H, W), or the image (C, H, W), enlarged; InputError with a cure."""
    check_images(batch, name="image", axes="..., H, W", valued=True)
    shape = tuple(batch.shape)
    if batch.ndim not in (3, 4) or 0 in shape or shape[-3] > 4:
        order = "0, 3, 1, 2" if batch.ndim == 4 else "2, 0, 1"
        raise InputError(
            f"The tensor is {shape}; give (B, C, H, W) or (C, H, W), C from 1 to 4: grey or RGB, "
            f"then alpha. One with channels last is turned by tensor.permute({order})."
        )
    images = batch if batch.ndim == 4 else batch[None]  # (B, C, H, W)
    made = []
    for one in images:
        samples = one.float().permute(1, 2, 0).numpy(force=True)  # (H, W, C)
        large = np.atleast_3d(_made(Image.from_numpy(samples), request).to_numpy())  # (sH, sW, C)
        made.append(torch.from_numpy(large).permute(2, 0, 1))
    sr = torch.stack(made).to(batch.device, batch.dtype)  # (B, C, sH, sW)
    return sr if batch.ndim == 4 else sr[0]
