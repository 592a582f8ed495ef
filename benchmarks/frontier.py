"""Fidelity against sharpness: forms and weights of the gradient variance loss, ESPCN ×3.

    python benchmarks/frontier.py --store photos.store --trunk runs/espcn_trunk/model.safetensors \
        --data DATA --out runs/frontier --json results/frontier.json

Each point finishes the same trunk; finished points are kept, so the command can be repeated.
"""

import argparse
import json
from pathlib import Path

from edgekeeper.checkpoint import load_model
from edgekeeper.data.store import Store
from edgekeeper.evaluate import evaluate, mean_scores
from edgekeeper.metrics.statistics import describe
from edgekeeper.recipes.frontier import FORMS, WEIGHTS, WEIGHTS_OF_OTHER_FORMS, variant
from edgekeeper.train import RunOptions, train

METRICS = ("psnr", "ssim", "gv_ratio", "gv_gap", "gradient_psnr", "gmsd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("store", "trunk", "data", "out", "json"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--sets", default="set5,set14")
    given = parser.parse_args()
    store = Store.open(given.store)
    scores = {}
    choices = [("variance", weight) for weight in (0.0, *WEIGHTS)]
    others = [form for form in FORMS if form != "variance"]
    choices += [(form, weight) for form in others for weight in WEIGHTS_OF_OTHER_FORMS]
    for form, weight in choices:
        recipe = variant(form, weight=weight)
        out = given.out / recipe.name
        model = out / "model.safetensors"
        if not model.is_file():
            train(recipe, store, options=RunOptions(out=out, start_from=given.trunk))
        scores[form, weight] = evaluate(
            load_model(model), sets=given.sets.split(","), scale=3, data_root=given.data
        )
        means = mean_scores(scores[form, weight])
        print(f"{recipe.name:34}", *(f"{m} {means[m]:.4f}" for m in METRICS), flush=True)
        write(scores, given.json, sets=given.sets)


def write(scores: dict, path: Path, *, sets: str) -> None:
    reference = scores["variance", 0.0]
    rows = []
    for (form, weight), ours in scores.items():
        row = {"form": form, "weight": weight, **mean_scores(ours)}
        if weight:
            for metric in METRICS:
                found = describe(
                    [getattr(s, metric) for s in ours], [getattr(s, metric) for s in reference]
                )
                row[f"{metric}_difference"] = [found.mean, found.low, found.high]
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"sets": sets, "scale": 3, "protocol": "y_matlab", "points": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
