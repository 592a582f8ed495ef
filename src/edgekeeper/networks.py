"""The networks that come with the package, and files of networks in general.

A network file is one safetensors file: half-precision weights, how to build the network, and its
card (recipe, seed, commit, pictures with licence, steps, time, results with protocol).
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from edgekeeper.checkpoint import KEY, load_exactly, load_model, read_tensors, write_tensors
from edgekeeper.errors import CheckpointError, InputError, unknown_name
from edgekeeper.evaluate import Score, evaluate
from edgekeeper.metrics.statistics import interval
from edgekeeper.models import MODELS, SRModel, parameter_count
from edgekeeper.spec import from_json

WEIGHTS = Path(__file__).parent / "weights"
Structure = Literal["faithful", "sharp"]

# By structure: "faithful" networks have the smallest error, "sharp" ones the more
# truthful gradient variance.
DEFAULTS: dict[Structure, str] = {
    "faithful": "edsr_light_x{scale}",
    "sharp": "edsr_light_x{scale}_gv",
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network file: its name, where it is, what it enlarges by, and its card."""

    name: str
    path: Path
    scale: int
    model: str
    card: dict[str, object]


def networks() -> list[Network]:
    """The networks inside the package, by name."""
    return [describe(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def describe(path: Path) -> Network:
    """What the file ``path`` holds, without reading its weights."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
        description, card = facts["model"], facts["card"]
        scale = int(description["arguments"]["scale"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not a network file of edgekeeper: {error}.") from error
    return Network(path.stem, path, scale, str(description["name"]), card)


def find(name_or_path: str | Path) -> Path:
    """The file of a network that ships, by name, or of one's own, by path.

    Raises:
        InputError: neither; names the nearest network that ships.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = WEIGHTS / f"{name_or_path}.safetensors"
    if shipped.is_file():
        return shipped
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"There is no network file '{name_or_path}'.")
    raise unknown_name(
        "network", str(name_or_path), known=[p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))]
    )


def load(name_or_path: str | Path) -> SRModel:
    """A network ready to use (float32, evaluation mode), by shipped name or by path of a file.

    Raises:
        InputError: no such network. CheckpointError: the file is damaged.
    """
    return load_model(find(name_or_path))


def default_name(scale: int, *, structure: Structure = "faithful") -> str:
    """The name of the network to use for a scale: the faithful or the sharper one."""
    if scale not in (2, 3, 4):
        raise InputError(f"No network enlarges by {scale}; choose scale 2, 3 or 4.")
    return DEFAULTS[structure].format(scale=scale)


def pack(
    source: Path,
    target: Path,
    *,
    data_root: Path,
    sets: Sequence[str] = ("set5", "set14", "bsd100"),
    protocol: str = "y_matlab",
) -> Network:
    """A network file at ``target``, made from a run's ``model.safetensors``.

    Weights are rounded to half precision first and the rounded network is scored on ``sets``, so
    that the results on the card are those of the file. Each mean has a 95 % bootstrap interval
    over the pictures.
    """
    file = read_tensors(source)
    description, card = file.facts.get("model"), file.facts.get("card")
    if not isinstance(description, dict) or not isinstance(card, dict):
        raise CheckpointError(f"'{source}' is not a finished network; give a model.safetensors.")
    half = {name: tensor.half() for name, tensor in file.tensors.items()}
    spec = from_json(description, known={model.__name__: model for model in MODELS.values()})
    model = spec.build().eval()
    load_exactly(model, {k: v.float() for k, v in half.items()}, origin=str(source))
    results = []
    for set_name in sets:
        scores = evaluate(
            model, sets=[set_name], scale=model.scale, protocol=protocol, data_root=data_root
        )
        results.append({"set": set_name, "protocol": protocol, **_means(scores)})
    complete = {**card, "parameters": parameter_count(model), "results": results}
    write_tensors(target, half, facts={"model": description, "card": complete})
    return describe(target)


def _means(scores: Sequence[Score]) -> dict[str, object]:
    """Mean and interval of each metric."""
    found: dict[str, object] = {"pictures": len(scores)}
    for metric in ("psnr", "ssim", "gv_ratio", "gv_gap", "gradient_psnr", "gmsd"):
        found_interval = interval([getattr(score, metric) for score in scores])
        found[metric] = round(found_interval.mean, 5)
        found[f"{metric}_interval"] = [round(found_interval.low, 5), round(found_interval.high, 5)]
    return found
