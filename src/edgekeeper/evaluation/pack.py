"""Finished networks packed to be shipped: rounded to half precision, scored, with their card."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.metrics.score import METRICS, Score
from edgekeeper.metrics.statistics import interval
from edgekeeper.models import DGGGANLight, parameter_count
from edgekeeper.pretrained.cards import gather_images
from edgekeeper.pretrained.checkpoint import load_exactly, read_network, write_tensors
from edgekeeper.pretrained.zoo import Network, describe


def pack(
    source: Path,
    target: Path,
    *,
    data_root: Path,
    sets: Sequence[str] = ("set5", "set14", "bsd100"),
) -> Network:
    """Return a network file at ``target``, made from a run's ``model.safetensors`` or its state.

    Weights are rounded to half precision first, so that the results on the card are those of the
    file, with 95 % bootstrap intervals over the images; LPIPS where its weight files are. A
    gradient branch that only training needs (``DGGGANLight``) is left out.
    """
    file = read_network(source)
    network = file.spec
    model = network.build().eval()
    load_exactly(model, file.tensors, origin=str(source))
    if isinstance(model, DGGGANLight):
        model = model.without_gradient_branch()
        without = {**dict(network.arguments), "gradient_width": 0}
        network = replace(network, arguments=tuple(sorted(without.items())))
    half = {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    load_exactly(model, {k: v.float() for k, v in half.items()}, origin=str(source))
    results = []
    for set_name in sets:
        scores = evaluate(
            model,
            sets=[set_name],
            scale=model.scale,
            data_root=data_root,
            metrics=(*METRICS, "lpips"),
        )
        results.append({"set": set_name, "protocol": "y_matlab", **_means(scores)})
    complete = {
        **gather_images(file.card),
        "parameters": parameter_count(model),
        "results": results,
    }
    write_tensors(target, half, facts={"model": network.to_json(), "card": complete})
    return describe(target)


def _means(scores: Sequence[Score]) -> dict[str, object]:
    found: dict[str, object] = {"images": len(scores)}
    for metric in ("psnr", "ssim", "gv_ratio", "gv_gap", "gradient_psnr", "gmsd", "lpips"):
        values = [value for score in scores if (value := score.value(metric)) is not None]
        if len(values) < len(scores):
            continue  # LPIPS without its weight files
        over = interval(values)
        found[metric] = round(over.mean, 5)
        ends = (over.low, over.high)
        found[f"{metric}_interval"] = [round(end, 5) for end in ends if end is not None]
    return found
