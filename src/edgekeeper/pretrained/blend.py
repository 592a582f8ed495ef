"""Network interpolation: the weights of two networks of one kind, mixed.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV Workshops
2018, section 3.4, equation 4. Between a network trained for fidelity and one trained for texture
from the same start, alpha turns one into the other without another training.
"""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, InputError
from edgekeeper.models import MODELS, SRModel
from edgekeeper.pretrained.cards import ancestor, images_of
from edgekeeper.pretrained.checkpoint import code_version, read_network, save_model
from edgekeeper.pretrained.published import published_spec
from edgekeeper.pretrained.zoo import Network, describe, find, is_own, load
from edgekeeper.spec import Spec

Plain = bool | int | float | str


def blend(a: SRModel, b: SRModel, *, alpha: float) -> SRModel:
    """Return a new network with the weights (1 - alpha) · a + alpha · b, in evaluation mode.

    Buffers of floats are mixed as the weights are; others must be equal. The sums are made in
    float64. Raises InputError for networks that are not of one kind, with the first difference.
    """
    _check_alpha(alpha)
    ours, theirs = _tensors(a), _tensors(b)
    difference = _first_difference(a, b)
    if difference is not None:
        raise InputError(f"A and B cannot be blended: {difference}.")
    if not any(tensor.is_floating_point() for tensor in ours.values()):
        raise InputError(f"{type(a).__name__} has no weights to blend; give files of weights.")
    mixed = copy.deepcopy(a)
    with torch.no_grad():
        for name, target in _tensors(mixed).items():
            if target.is_floating_point():
                own, other = ours[name].double(), theirs[name].to(target.device).double()
                target.copy_(torch.lerp(own, other, alpha))
    return mixed.eval()


def blend_files(
    a: str | Path, b: str | Path, *, alpha: float, target: str | Path, scale: int | None = None
) -> Network:
    """Return the network file written to ``target`` (.safetensors): two networks blended.

    a, b: names of networks that ship, or files; ``scale`` is for foreign ones that do not say
    theirs. The card holds alpha, and name, SHA-256 and card of both parents.
    Raises InputError: unlike networks, another file extension, or one of the two.
    """
    _check_alpha(alpha)
    target = Path(target)
    paths = find(a), find(b)
    if target.suffix.lower() != ".safetensors":
        raise InputError(f"A network file ends in .safetensors; '{target}' does not.")
    if any(target.resolve() == path.resolve() for path in paths):
        raise InputError(f"'{target}' is one of the two networks; write to another file.")
    models = [load(path, scale=scale) for path in paths]
    specs = [_spec(path, scale=scale) for path in paths]
    mixed = blend(models[0], models[1], alpha=alpha)
    described = next((found for found in specs if found is not None), None)
    if described is None or _first_difference(mixed, described.build()) is not None:
        raise InputError(
            f"A {type(mixed).__name__} made elsewhere cannot be written as a network file; "
            "edgekeeper.pretrained.blend.blend mixes two of them in memory."
        )
    card = {
        "blend": {
            "alpha": float(alpha),
            "weights": "(1 - alpha) * a + alpha * b",
            "a": ancestor(paths[0]),
            "b": ancestor(paths[1]),
        },
        "images": _images(paths),
        "code": code_version(),
    }
    save_model(target, mixed, spec=described, card=card)
    return describe(target)


def _images(paths: tuple[Path, Path]) -> list[dict[str, str]]:
    """Return what the two networks were trained on, each image once."""
    cards = [read_network(path).card for path in paths if is_own(path)]
    images = [image for card in cards for image in images_of(card)]
    return [image for n, image in enumerate(images) if image not in images[:n]]


def _check_alpha(alpha: float) -> None:
    if not math.isfinite(alpha) or not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha:g}; it lies from 0 (all of A) to 1 (all of B).")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _first_difference(a: nn.Module, b: nn.Module) -> str | None:
    """Return what makes the two networks unlike, but for their floats; None when nothing does."""
    if type(a) is not type(b):
        return f"A is of the class {type(a).__name__}, B of {type(b).__name__}"
    ours, theirs = _settings(a), _settings(b)
    for name in [*ours, *theirs]:
        one, other = (found.get(name) for found in (ours, theirs))
        if one != other:
            return f"{name} is {one!r} in A and {other!r} in B"
    return None


def _settings(model: nn.Module) -> dict[str, object]:
    """Return what the modules hold besides floats, such as scale or stride, by dotted name.

    Two networks with weights of the same shapes may still differ in these.
    """
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            parts = value if isinstance(value, tuple) else (value,)
            plain = all(isinstance(part, Plain) for part in parts)
            if plain and key != "training" and not key.startswith("_"):
                found[f"{name}.{key}" if name else key] = value
    for name, tensor in _tensors(model).items():
        floats = tensor.is_floating_point()
        found[name] = (tuple(tensor.shape), tensor.dtype) if floats else tensor.tolist()
    return found


def _spec(path: Path, *, scale: int | None) -> Spec[SRModel] | None:
    if is_own(path):
        return read_network(path).spec
    try:
        found = published_spec(path, scale=scale)
    except CheckpointError:  # one of the community's
        return None
    return found if found.target in MODELS.values() else None
