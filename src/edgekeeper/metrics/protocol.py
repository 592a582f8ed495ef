"""Protocols: what exactly is compared when two images are scored.

The same two images differ by 2 dB between protocols: luma or RGB, how wide a border is
left out, what is rounded, which kernel made the small image. A ``Protocol`` says all of
it, is stored beside each number, and numbers under unlike protocols are never compared.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from torch import Tensor

from edgekeeper.errors import InputError, check_choice, unknown_name
from edgekeeper.files import read_facts
from edgekeeper.ops.check import check_images
from edgekeeper.ops.color import rgb_to_grey_edsr, rgb_to_y, round_uint8
from edgekeeper.spec import Allowed, Checked

BorderWidth = int | Literal["scale"]


def _is_border(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return whole or value == "scale"


Side = Annotated[BorderWidth, Allowed("a number of pixels or 'scale'", _is_border)]


@dataclass(frozen=True, kw_only=True)
class Protocol(Checked):
    """What is compared: colour, rounding, border, SSIM, how LR is made. Raises InputError."""

    name: str  # under which the numbers are published
    colour: Literal["y", "rgb"]  # BT.601 studio luma, or the three channels together
    # Left as it is, beyond [0, 1] too; clipped and rounded to the uint8 grid; the luma as well.
    rounding: Literal["none", "rgb", "rgb_and_y"]
    border: Side = "scale"  # HR pixels left out on each side for PSNR and structure
    ssim_colour: Literal["same", "edsr_grey"] = "same"  # without offset, weights over 256
    ssim_border: Side = "scale"
    ssim_window: Literal["valid", "symmetric"] = "valid"  # whole windows only, or mirrored borders
    ssim_downsampling: Literal["none", "auto"] = "none"  # shrinks large images, as Wang's ssim.m
    # The set's own LR files, made by MATLAB's bicubic on uint8 images, or made anew.
    lr: Literal["stored", "matlab_float", "pillow_bilinear"] = "stored"
    # The row without a network: rounded after each of the two passes, as MATLAB did on uint8
    # images; not rounded; of an LR that was never rounded; Pillow's.
    baseline: Literal["bicubic_uint8", "bicubic", "bicubic_unrounded", "pillow_bilinear"] = (
        "bicubic_uint8"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colour == "rgb" and self.rounding == "rgb_and_y":
            raise InputError("A protocol on RGB has no luma to round: use rounding='rgb'.")

    def to_json(self) -> dict[str, str | int]:
        """Return the fields as a plain dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Protocol":
        """Return what ``to_json`` wrote. Raises InputError: unknown or missing fields."""
        known = [field.name for field in fields(cls)]
        for key in stored.keys() - set(known):
            raise unknown_name("protocol field", key, known=known)
        missing = [key for key in known if key not in stored]
        if missing:
            raise InputError(f"A stored protocol lacks the fields {', '.join(missing)}.")
        return cls(**stored)


PROTOCOLS: dict[str, Protocol] = {
    name: Protocol(name=name, **facts)
    for name, facts in read_facts("edgekeeper.metrics", "protocols.toml").items()
}


def find_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol itself, or the one of that name; InputError with the nearest name."""
    if isinstance(protocol, Protocol):
        return protocol
    check_choice("protocol", protocol, known=PROTOCOLS)
    return PROTOCOLS[protocol]


@dataclass(frozen=True)
class ImagePair:
    """Two images made ready for comparison: (B, C, H, W) float64, equal shapes."""

    sr: Tensor
    hr: Tensor


OVERSHOOT = 10.0  # how far a network's output may leave [0, 1]; an image from 0 to 255 is beyond


def check_range(name: str, image: Tensor, *, beyond: float) -> None:
    """Raise InputError, naming the range, for values further from [0, 1], or not finite."""
    low, high = float(image.min()), float(image.max())
    if not (-beyond <= low and high <= 1 + beyond):  # a NaN too
        if not (low <= high):
            raise InputError(f"{name} must lie in [0, 1]; it has values that are no number (NaN).")
        raise InputError(
            f"{name} must lie in [0, 1]; it reaches from {low:g} to {high:g}. Divide 8-bit values "
            "by 255."
        )


def check_rgb(x: Tensor, *, name: str = "x") -> None:
    """Raise InputError unless ``x`` is floating-point RGB (B, 3, H, W), of a pixel at least."""
    check_images(x, name=name, axes="B, 3, H, W", valued=True)
    if not x.numel():
        raise InputError(f"'{name}' is {tuple(x.shape)}, which holds no pixel; give one at least.")


_made: ContextVar[dict[bool, ImagePair] | None] = ContextVar("made", default=None)


@contextmanager
def converted_once() -> Iterator[None]:
    """Let all metrics within share the images made ready, by rounding: they are of one pair."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def images(sr: Tensor, hr: Tensor, *, protocol: Protocol) -> ImagePair:
    """Both images as RGB (B, 3, H, W) float64, rounded as the protocol says, not cropped.

    What a network gives, ``sr``, may leave [0, 1], but not plainly be on another range.
    Raises InputError: other shapes or ranges.
    """
    made, rounded = _made.get(), protocol.rounding != "none"
    if made is not None and rounded in made:
        return made[rounded]
    for name, image in (("sr", sr), ("hr", hr)):
        check_rgb(image, name=name)
    if sr.shape != hr.shape:
        raise InputError(
            f"The two images differ in size: sr is {tuple(sr.shape)}, hr is {tuple(hr.shape)}. "
            "Crop the HR image to a multiple of the scale first."
        )
    for name, image, beyond in (("hr", hr, 1e-3), ("sr", sr, OVERSHOOT)):
        check_range(name, image, beyond=beyond)
    # float64 before rounding: a float32 k/255 then lands on the exact grid.
    prediction, target = sr.detach().double(), hr.detach().double()
    if rounded:
        prediction, target = round_uint8(prediction), round_uint8(target)
    pair = ImagePair(prediction, target)
    if made is not None:
        made[rounded] = pair
    return pair


def compared(
    sr: Tensor,
    hr: Tensor,
    *,
    protocol: Protocol,
    scale: int | None,
    metric: Literal["psnr", "ssim", "structure"],
) -> ImagePair:
    """Return what ``metric`` looks at under ``protocol``: float64, colour chosen, border cut.

    (B, 1, H', W') for luma and grey, (B, 3, H', W') for RGB and for "structure".
    """
    pair = images(sr, hr, protocol=protocol)
    border = protocol.ssim_border if metric == "ssim" else protocol.border
    pixels = _pixels(border, scale=scale, protocol=protocol)
    sr, hr = (_cut(x, border=pixels) for x in (pair.sr, pair.hr))
    if metric == "structure":
        return ImagePair(sr, hr)
    return ImagePair(*(_colour(x, protocol=protocol, metric=metric) for x in (sr, hr)))


def _colour(x: Tensor, *, protocol: Protocol, metric: Literal["psnr", "ssim"]) -> Tensor:
    if metric == "ssim" and protocol.ssim_colour == "edsr_grey":
        return rgb_to_grey_edsr(x)
    if protocol.colour == "rgb":
        return x
    y = rgb_to_y(x)
    return round_uint8(y) if protocol.rounding == "rgb_and_y" else y


def _cut(x: Tensor, *, border: int) -> Tensor:
    height, width = x.shape[-2:]
    if 2 * border >= min(height, width):
        raise InputError(f"A border of {border} pixels leaves nothing of a {height}x{width} image.")
    return x[..., border : height - border, border : width - border]


def _pixels(border: BorderWidth, *, scale: int | None, protocol: Protocol) -> int:
    if border != "scale":
        return border
    if scale is None:
        raise InputError(
            f"Protocol '{protocol.name}' leaves out a border as wide as the scale: "
            "give scale=2, 3 or 4."
        )
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise InputError(f"scale must be a whole number from 1 on; got {scale!r}.")
    return scale
