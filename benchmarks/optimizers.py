"""Adam against SOAP: PSNR after so many updates and seconds, ESPCN ×3 from scratch on luma.

    python benchmarks/optimizers.py --store photos.store --data DATA --out runs/optimizers

Same weights at the start, same batches, a cosine to 0. Rates are the best of those tried for each.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from edgekeeper.data.store import Store
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.metrics.score import mean_scores
from edgekeeper.pretrained.checkpoint import load_model
from edgekeeper.recipes.shipped import SOAP_OPTIM, espcn
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Optim

CHOICES = {
    "adam_2e-3": Optim(learning_rate=2e-3, clip="norm", clip_limit=0.1),
    "adam_5e-3": Optim(learning_rate=5e-3, clip="norm", clip_limit=0.1),
    "soap_2e-3": replace(SOAP_OPTIM, learning_rate=2e-3),
    "soap_5e-3": SOAP_OPTIM,
    "soap_1e-2": replace(SOAP_OPTIM, learning_rate=1e-2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("store", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(CHOICES))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    store = Store.open(given.store)
    base = espcn(scale=3, kind="plain")
    for name in given.only.split(","):
        optim = replace(CHOICES[name], warmup=100, schedule="cosine")
        stage = replace(base.stages[0], steps=given.steps, optim=optim)
        recipe = replace(base, name=name, stages=(stage,), ema_decay=0.99, validation=None)
        outcome = train(recipe, store, options=RunOptions(out=given.out / name))
        assert outcome.model_path is not None
        model = load_model(outcome.model_path)
        means = [
            mean_scores(evaluate(model, sets=[each], scale=3, data_root=given.data))["psnr"]
            for each in ("set5", "set14")
        ]
        print(f"{name:10} {given.steps} updates: Set5 {means[0]:.2f} dB, Set14 {means[1]:.2f} dB")


if __name__ == "__main__":
    main()
