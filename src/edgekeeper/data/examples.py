"""What degradations do to an image, to look at: LR images and what was done to each."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from edgekeeper.data.degradations import LIGHT, PHOTO, TWICE, Drawn, degrade, draw_round
from edgekeeper.data.degrade import KNOWN, degrade_known

_MIXTURES = {"light": LIGHT, "photo": PHOTO, "twice": TWICE}
_SIDE = 768  # of the part that is shown, of the original

Example = tuple[str, Tensor, str]  # the end of a file's name, the LR image, what was done


def middle(hr: Tensor, *, multiple: int) -> Tensor:
    """Return the middle of ``hr`` (1, 3, H, W), at most 768 pixels a side, whole multiples."""
    slices = []
    for length in hr.shape[-2:]:
        side = min(length, _SIDE) // multiple * multiple
        slices.append(slice((length - side) // 2, (length - side) // 2 + side))
    return hr[..., slices[0], slices[1]]


def known_examples(hr: Tensor, *, scale: int) -> Iterator[Example]:
    """Yield LR under each of the degradations of known strength."""
    for known in KNOWN:
        steps = (f"blur {known.blur:g}", known.blur), (f"noise {known.noise:g}", known.noise)
        done = [text for text, used in (*steps, (f"JPEG {known.quality}", known.quality)) if used]
        yield known.name, degrade_known(hr, known, scale=scale), ", ".join(done) or "made smaller"


def drawn_examples(
    hr: Tensor, *, mixture: str, count: int, scale: int, seed: int
) -> Iterator[Example]:
    """Yield ``count`` LR images, degraded at random as in training; none is left clean."""
    settings = replace(_MIXTURES[mixture], clean=0)
    for number in range(count):
        lr = degrade(hr, scale=scale, seed=seed, step=0, first_index=number, settings=settings)
        rounds = []
        for position, one in enumerate(settings.rounds):
            drawn = draw_round(one, number=position, seed=seed, step=0, first=number, count=1)
            rounds.append(_said(drawn))
        yield f"{mixture}_{number}", lr, "; then ".join(rounds)


def _said(drawn: Drawn) -> str:
    sigma, (noise, photon) = drawn.sigma[0], (drawn.gaussian[0], drawn.photon[0])
    steps = [
        (sigma[0], f"blur {sigma[0]:.2f} × {sigma[1]:.2f}"),
        (drawn.cutoff[0], "sinc blur"),
        (drawn.lens[0], f"lens {drawn.lens[0]:.2f}"),
        (noise, f"{'grey ' if drawn.grey[0] else ''}noise {255 * noise:.1f}"),
        (photon, "photon noise"),
        (drawn.amount[0], f"sharpened {drawn.amount[0]:.1f}"),
        (drawn.ring[0], "ringing"),
        (drawn.quality[0], f"JPEG {drawn.quality[0]} {'4:2:0' if drawn.halved[0] else '4:4:4'}"),
    ]
    return ", ".join(text for used, text in steps if used) or "made smaller"
