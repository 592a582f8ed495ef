"""What training computes does not change unseen: three light runs end in the bits of today.

The last bits of a sum depend on the processor's vector units, on the number of threads and on the
version of torch. ``PORTABLE`` leaves only the last free, so that a digest holds for the machine and
the version that stand beside it; elsewhere the test skips. A change that is meant to alter training
replaces them by those that the test then prints, and says why.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgekeeper.data.prepare import prepare_store, sources_in
from edgekeeper.losses import L1, GradientVariance, WassersteinGP
from edgekeeper.models import EDSR, GradientBranch, VGGDiscriminator
from edgekeeper.recipes.spsr import spsr
from edgekeeper.spec import spec
from edgekeeper.training.loop import RunOptions, train
from edgekeeper.training.recipe import Data, Discriminator, Optim, Recipe, Stage, Term

MACHINE, VERSION = "x86_64", "2.13.0+cpu"
DIGESTS = {
    "fidelity": "3170b53598fe5fbfcbe544d448b6e7005c52f195f67592b3014eddee429c333b",
    "spsr_light": "0ae93e0fc50692f465ca4d9474ccc710b614720a0e5a51a2e5244662f6125583",
    "wgan_gp": "ba1a63b018a1fe5b80c315d90053716de1ac4cc2a5e42b33bba10cdc95934cdc",
}
# Without them the digests of AVX2 and AVX-512 differ; with them they were seen to be equal under
# MKL_ENABLE_INSTRUCTIONS=AVX2, and under a C library and a NumPy without FMA, AVX2 and AVX-512.
PORTABLE = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",  # torch's kernels, without vector units; oneDNN is off below
    "MKL_CBWR": "COMPATIBLE",  # of MKL, what every x86-64 computes alike
}

SMALL = spec(EDSR, scale=4, width=4, blocks=2)
ADAM = Optim(learning_rate=1e-3, warmup=2)
PIXEL = Term("pixel", spec(L1))
FIDELITY = Recipe(
    "fidelity",
    spec(EDSR, scale=2, width=4, blocks=2),
    data=Data(patch=24, batch=3),
    stages=(
        Stage("l1", 4, replace(ADAM, clip="norm", clip_limit=0.1), (PIXEL,), candidates=2),
        Stage(
            "gv",
            4,
            Optim(learning_rate=1e-3, kind="soap", schedule="cosine"),
            (PIXEL, Term("gv", spec(GradientVariance, patch=8), weight=0.5, ramp=2)),
        ),
    ),
    ema_decay=0.9,
)


def shortened(recipe: Recipe) -> Recipe:
    """SPSR's recipe of small networks and few updates, without VGG19's features."""
    network = spec(VGGDiscriminator, size=24, width=2)
    stages = tuple(
        replace(
            stage,
            steps=3,
            terms=tuple(term for term in stage.terms if term.name != "perceptual"),
            discriminators=tuple(replace(d, network=network) for d in stage.discriminators),
        )
        for stage in recipe.stages
    )
    model = spec(GradientBranch, backbone=SMALL, width=4, taps=("blocks.0",))
    return replace(
        recipe,
        model=model,
        data=Data(patch=24, batch=2),
        stages=stages,
        start=None,
        validation=None,
    )


RECIPES = {
    "fidelity": FIDELITY,
    "spsr_light": shortened(spsr(variant="spsr", form="light")),
    "wgan_gp": replace(
        FIDELITY,
        stages=(
            replace(
                FIDELITY.stages[0],
                discriminators=(
                    Discriminator(
                        "critic",
                        spec(VGGDiscriminator, size=24, width=2, norm="none"),
                        spec(WassersteinGP),
                        ADAM,
                        weight=0.01,
                    ),
                ),
                discriminator_updates=2,
            ),
        ),
    ),
}


def trained_digests(folder: Path) -> dict[str, str]:
    """Train each recipe; return the SHA-256 of the tensors in its model.safetensors."""
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    numbers = np.random.default_rng(0)
    for k in range(2):
        image = numbers.integers(0, 256, (60, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{k}.png")
    store = prepare_store(sources_in(folder), folder / "store", scales=(2, 4))
    found = {}
    for name, recipe in RECIPES.items():
        path = train(recipe, store, options=RunOptions(out=folder / name)).model_path
        assert path is not None
        digest = hashlib.sha256()  # not of the card, which says how long it took
        for key, tensor in sorted(load_file(path).items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


@pytest.mark.skipif(
    (platform.machine(), torch.__version__) != (MACHINE, VERSION),
    reason=f"the digests hold on {MACHINE} with torch {VERSION}, not on this machine",
)
def test_three_light_runs_end_in_the_same_bits_as_ever(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env=os.environ | PORTABLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == DIGESTS


if __name__ == "__main__":
    print(json.dumps(trained_digests(Path(sys.argv[1]))))
