"""Structure risk: how much of the edges in a result contradicts its own input.

No original is needed. What a result shows is called into question on two grounds, and only the
first is held against it.

*Contradiction.* The result, shrunk with the kernel of the degradation, must give the input again,
gradient by gradient. Where it shows a gradient that is not the input's own, weaker or up to half
as strong again, its edges are not those of the input. Every original passes, whatever it shows:
its input was made from it, and where a result shrinks to the input up to rounding nothing is
contradicted. A blurred or interpolated result fails in the strict sense and yet invents nothing,
so only edges that are *new* count: what the result's gradient has that no share of the
interpolated input's gradient gives, and no more than it is stronger than that.

*What the input cannot decide.* Structure finer than the input's grid (bricks, blinds, a fence far
away) vanishes or turns into another pattern when it is shrunk: the input says neither that it is
there nor that it is not, and a network that draws it may be right. It shows as detail far beyond
what comes with so little contrast in the input: of 1.5 million places in 150 photographs, fewer
than 3 in 10,000 have edges above the lower of 2 + 12 U and 1 + 20 sqrt(U), with U the edges that
the input shows nearby, all in levels per pixel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.metrics.protocol import OVERSHOOT, check_range, check_rgb
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import sobel
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.structure import local_variance

STRONGER = 1.5  # times the input's own gradient: sharper is not different
FLOOR = 0.25  # levels per LR pixel of contradiction that rounding the input to 8 bits explains
# Edges of originals stay below 2 + 12 U and below 1 + 20 sqrt(U), with U the edges of the
# interpolated input. In smooth places the first is the lower, in textured ones the second.
CEILING = ((2.0, 12.0), (1.0, 20.0))
ROUNDING = 0.502 / 255  # between shrunk result and input, of rounding to 8 bits and of arithmetic
RING = 2  # LR pixels along the border that are not judged: how the maker treated it is not known
SMALLEST = 8  # least side of an input, in pixels
_REACH = 2  # LR pixels within which contrast of the input supports fine detail
_MARGIN = 1 + _REACH + 3  # LR rows a band needs beside its own: window, reach, interpolation
_BAND_PIXELS = 2**18  # SR pixels worked on at a time

_Gradient = tuple[Tensor, Tensor]  # rightwards and upwards


@dataclass(frozen=True)
class StructureRisk:
    """What the input does not support in a result.

    The maps (B, 1, h, w) are in grey levels (of 255) per SR pixel: the root of the mean square
    gradient over 3 × 3 LR pixels.
    """

    score: Tensor  # (B,) float64 in [0, 1], the share of all edge strength that contradicts
    undecided: Tensor  # (B,) float64 in [0, 1], the share that the input cannot decide
    edges: Tensor  # edge strength of the result around each LR pixel
    unsupported: Tensor  # how much of it contradicts the input
    beyond: Tensor  # how much of it the input cannot decide


def shrink(sr: Tensor, *, scale: int) -> Tensor:
    """``sr`` (B, C, scale·h, scale·w) shrunk as inputs are made: MATLAB's bicubic, clipped."""
    return imresize(sr, scale=1 / scale).clamp_(0, 1)


@torch.no_grad()
def structure_risk(lr: Tensor, sr: Tensor, *, scale: int) -> StructureRisk:
    """Return how much of each result ``sr`` contradicts its input ``lr``, or is beyond it.

    With gradients g (Sobel over 8, in levels of 255, colours averaged in the square) and root mean
    squares over 3 × 3 LR pixels:

    - new N: of g(sr), the distance to the nearest point between 0 and g(interpolated lr), but at
      most sqrt(E² - I²), with E of g(sr) and I of g(interpolated lr);
    - contradiction c = (R - FLOOR) / S, clipped to [0, 1], with R the distance of g(shrunk sr) to
      the nearest point between 0 and 1.5 g(lr), 0 where the shrunk sr equals lr up to rounding
      under the whole Sobel window, and S of g(shrunk sr);
    - excess e = 1 - min(2 + 12 U, 1 + 20 sqrt(U)) / E, not below 0, with U the largest I
      within 2 LR pixels;
    - unsupported N · c and beyond N · max(e - c, 0); score and undecided are their sums over
      that of E.

    A flat result scores 0. ``lr`` (B, 3, h, w) and ``sr`` (B, 3, scale·h, scale·w) are RGB in
    [0, 1]; 8 × 8 pixels at least. Worked on in bands: little memory is needed beside both.
    """
    _check(lr, sr, scale=scale)
    contradiction = _contradiction(lr.float(), shrink(sr.float(), scale=scale))
    height, width = lr.shape[-2:]
    rows = max(32, _BAND_PIXELS // (scale * scale * width * lr.shape[0]))
    edges, unsupported, beyond = [], [], []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - _MARGIN), min(height, bottom + _MARGIN)
        strength, new, ceiling = (
            field[..., top - first : bottom - first, :]
            for field in _fields(
                lr[..., first:last, :].float(),
                sr[..., first * scale : last * scale, :].float(),
                scale=scale,
            )
        )
        contradicted = contradiction[..., top:bottom, :]
        edges.append(strength)
        unsupported.append(new * contradicted)
        beyond.append(new * (1 - ceiling / strength - contradicted).clamp_min_(0))
    maps = [torch.cat(bands, dim=-2) for bands in (edges, unsupported, beyond)]
    total, *parts = (x.double().sum(dim=(1, 2, 3)) for x in maps)
    score, undecided = (part.div(total.clamp_min(1e-9)).clamp_(max=1) for part in parts)
    return StructureRisk(score, undecided, *maps)


def _check(lr: Tensor, sr: Tensor, *, scale: int) -> None:
    for image in (lr, sr):
        check_rgb(image)
    if scale < 2:
        raise InputError(f"scale is {scale}; it must be a whole number from 2 on.")
    (height, width), (sr_height, sr_width) = lr.shape[-2:], sr.shape[-2:]
    if (sr_height, sr_width) != (height * scale, width * scale) or len(lr) != len(sr):
        raise InputError(
            f"The result is {tuple(sr.shape)}; of an input {tuple(lr.shape)} at scale {scale} it "
            f"must be {(len(lr), 3, height * scale, width * scale)}. Give the input first."
        )
    if min(height, width) < SMALLEST:
        raise InputError(f"The input has {width}x{height} pixels; structure needs 8x8 or more.")


def _gradient(image: Tensor) -> _Gradient:
    """Both derivatives in grey levels per pixel: a ramp of one level per pixel gives 1."""
    found = sobel(image, border="replicate")
    return found.x.mul_(255 / 8), found.y.mul_(255 / 8)


def _energy(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared length of vectors, averaged over the colours: (B, 1, H, W)."""
    return (x.square() + y.square()).mean(dim=1, keepdim=True)


def _window(energy: Tensor) -> Tensor:
    """Return the root of the mean over 3 × 3 LR pixels."""
    padded = functional.pad(energy, (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, stride=1).sqrt_()


def _apart(prediction: _Gradient, target: _Gradient, *, most: float) -> Tensor:
    """The squared distance of our gradient to the nearest point between 0 and ``most`` × target."""
    (x, y), (known_x, known_y) = prediction, target
    squared = known_x.square() + known_y.square()
    share = (x * known_x + y * known_y).div_(squared.add_(1e-6)).clamp_(0, most)
    return _energy(x - share * known_x, y - share * known_y)


def _contradiction(lr: Tensor, shrunk: Tensor) -> Tensor:
    """Return the share (B, 1, h, w) of the shrunk result's gradient that the input contradicts."""
    prediction = _gradient(shrunk)
    residual = _apart(prediction, _gradient(lr), most=STRONGER)
    apart = (shrunk - lr).abs_().amax(dim=1, keepdim=True)
    residual[functional.max_pool2d(apart, 3, stride=1, padding=1) <= ROUNDING] = 0
    judged = torch.zeros_like(residual)
    inside = (..., slice(RING, -RING), slice(RING, -RING))
    judged[inside] = residual[inside]
    beyond = (_window(judged) - FLOOR).clamp_min_(0)
    return (beyond / _window(_energy(*prediction)).clamp_min_(1e-6)).clamp_max_(1)


def _fields(lr: Tensor, sr: Tensor, *, scale: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edge strength, new edges, and the ceiling for originals, each (B, 1, h, w)."""
    prediction, target = _gradient(sr), _gradient(imresize(lr, scale=scale))
    strength, new, known = (
        _window(functional.avg_pool2d(energy, scale))
        for energy in (_energy(*prediction), _apart(prediction, target, most=1), _energy(*target))
    )
    stronger = (strength.square() - known.square()).clamp_min_(0).sqrt_()
    nearby = functional.max_pool2d(known, 2 * _REACH + 1, stride=1, padding=_REACH)
    (base, slope), (other, factor) = CEILING
    ceiling = torch.minimum(base + slope * nearby, other + factor * nearby.sqrt())
    return strength.clamp_min_(1e-6), torch.minimum(new, stronger), ceiling


# ---- Artifacts of a texture network, found by a faithful network's result ------------------------


WINDOW = 11  # pixels a side over which texture is measured, and the mask is smoothed
THRESHOLD = 0.7  # similarity below which a place counts as an artifact
CONSTANT = 0.03**2  # squared level, in [0, 1], below which a difference of texture is not seen


@dataclass(frozen=True)
class TextureDifference:
    """Where two results of one LR image have unlike texture."""

    similarity: Tensor  # (B, 1, H, W) in (0, 1], smoothed; 1 is as much texture in both
    mask: Tensor  # (B, 1, H, W) bool, where it is below the threshold
    share: Tensor  # (B,) float64, of the mask in the image


@torch.no_grad()
def texture_difference(sr: Tensor, faithful: Tensor) -> TextureDifference:
    """Return where the texture of ``sr`` is not that of ``faithful``, a squared-error network's.

    With a, b the standard deviations of grey over 11 × 11 pixels in both, D = (2 a
    b + C) / (a² + b² + C), C = (0.03)², averaged over as many. Both are RGB (B, 3, H, W) in [0, 1].
    Xie et al., "DeSRA: Detect and Delete the Artifacts of GAN-based Real-World Super-Resolution
    Models", ICML 2023, arXiv 2307.02457, section 3, without its thresholds by semantic class; the
    mean stands for its morphology. Raises InputError.
    """
    for x in (sr, faithful):
        check_rgb(x)
        if x.shape != sr.shape:
            raise InputError(
                f"Results {tuple(sr.shape)} and {tuple(faithful.shape)} are not of one size; give "
                "two of the same image, by one factor."
            )
        check_range("A result", x, beyond=OVERSHOOT)
    similarity = texture_similarity(sr, faithful)
    mask = similarity < THRESHOLD
    return TextureDifference(similarity, mask, mask.double().mean(dim=(1, 2, 3)))


def texture_similarity(sr: Tensor, faithful: Tensor) -> Tensor:
    """Return the smoothed D (B, 1, H, W) of two RGB batches, unchecked, in float32."""
    own, other = (local_variance(rgb_to_grey_gv(x.float()), window=WINDOW) for x in (sr, faithful))
    similarity = (2 * torch.sqrt(own * other) + CONSTANT) / (own + other + CONSTANT)
    around = functional.pad(similarity, (WINDOW // 2,) * 4, mode="reflect")
    return functional.avg_pool2d(around, WINDOW, stride=1)
