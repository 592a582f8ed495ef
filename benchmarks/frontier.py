"""Fidelity against sharpness: forms and weights of the gradient variance loss, ESPCN ×3.

    python benchmarks/frontier.py --store photos.store --data DATA --out runs/frontier \
        --json results/frontier.json --seeds 3

ESPCN ×3 from scratch, as the networks that ship are trained but shorter. All of one seed begin from
the same weights and see the same batches; only the added term differs. Weight 0 is the reference.
The published form is trained with each seed and an image's scores are averaged over the seeds;
the other forms with seed 0, and compared with weight 0 of seed 0. Finished points are kept, so the
command can be repeated.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from edgekeeper.data.store import Store
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.losses import GradientVariance
from edgekeeper.metrics.score import mean_scores
from edgekeeper.metrics.statistics import paired_difference
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.recipes.shipped import espcn
from edgekeeper.spec import spec
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Recipe, Term

METRICS = ("psnr", "ssim", "gv_ratio", "gv_gap", "gradient_psnr", "gmsd")
STEPS = 1_000
WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1)
WEIGHTS_OF_OTHER_FORMS = (0.01,)

FORMS: dict[str, tuple[Term, ...]] = {
    # The loss of the published code: variance, Sobel, patches of 16 side by side.
    "variance": (Term("gv", spec(GradientVariance, patch=16)),),
    "deviation": (Term("gv", spec(GradientVariance, patch=16, statistic="deviation")),),
    "overlapping": (Term("gv", spec(GradientVariance, patch=16, stride=8)),),
    "patches 4, 8, 16": tuple(
        Term(f"gv{patch}", spec(GradientVariance, patch=patch), weight=1 / 3)
        for patch in (4, 8, 16)
    ),
    "central": (Term("gv", spec(GradientVariance, patch=16, operator="central")),),
    "ramp": (Term("gv", spec(GradientVariance, patch=16), ramp=STEPS),),
}
# Where a form counts in other units its weights are multiplied by this: deviations are roots
# of variances; the central difference has a quarter of Sobel's gain, so a 256th of its variance.
WEIGHT_UNITS = {"deviation": 0.1, "central": 100.0}


def variant(form: str, *, weight: float, seed: int = 0) -> Recipe:
    """Return the recipe that trains ESPCN ×3 with ``weight`` times the added terms of ``form``."""
    base = espcn(scale=3, kind="plain")
    whole = base.stages[0]
    factor = weight * WEIGHT_UNITS.get(form, 1.0)
    added = tuple(dataclasses.replace(t, weight=t.weight * factor) for t in FORMS[form])
    stage = dataclasses.replace(whole, steps=STEPS, terms=whole.terms + (added if weight else ()))
    name = f"frontier_{form.replace(', ', '_').replace(' ', '_')}_{weight:g}_seed{seed}"
    return dataclasses.replace(
        base, name=name, stages=(stage,), seed=seed, ema_decay=0.99, validation=None
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("store", "data", "out", "json"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--sets", default="set5,set14")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    store = Store.open(given.store)
    scores: dict[tuple[str, float, int], list] = {}
    points = [("variance", w, s) for s in range(given.seeds) for w in (0.0, *WEIGHTS)]
    others = [form for form in FORMS if form != "variance"]
    points += [(form, w, 0) for form in others for w in WEIGHTS_OF_OTHER_FORMS]
    for form, weight, seed in points:
        recipe = variant(form, weight=weight, seed=seed)
        out = given.out / recipe.name
        model = out / "model.safetensors"
        if not model.is_file():
            train(recipe, store, options=RunOptions(out=out))
        found = evaluate(
            load_model(model), sets=given.sets.split(","), scale=3, data_root=given.data
        )
        scores[form, weight, seed] = found
        means = mean_scores(found)
        print(f"{recipe.name:40}", *(f"{m} {means[m]:.4f}" for m in METRICS), flush=True)
        write(scores, given.json, sets=given.sets, seeds=given.seeds)


def values(scores: dict, form: str, *, weight: float, metric: str, seeds: list[int]) -> list:
    """A metric of each image, averaged over seeds."""
    runs = [[getattr(s, metric) for s in scores[form, weight, seed]] for seed in seeds]
    return [sum(column) / len(column) for column in zip(*runs, strict=True)]


def write(scores: dict, path: Path, *, sets: str, seeds: int) -> None:
    rows = []
    for form, weight in dict.fromkeys((form, weight) for form, weight, _ in scores):
        both = [
            seed
            for seed in range(seeds)
            if (form, weight, seed) in scores and ("variance", 0.0, seed) in scores
        ]
        row: dict = {"form": form, "weight": weight, "seeds": len(both)}
        for metric in METRICS:
            ours = values(scores, form, weight=weight, metric=metric, seeds=both)
            row[metric] = sum(ours) / len(ours)
            if weight:
                reference = values(scores, "variance", weight=0.0, metric=metric, seeds=both)
                found = paired_difference(ours, reference)
                row[f"{metric}_difference"] = [found.mean, found.low, found.high]
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"sets": sets, "scale": 3, "protocol": "y_matlab", "points": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
