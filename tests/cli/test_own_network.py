"""A network of one's own from its recipe to a picture: the run stopped, its state used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RECIPE = """
from torch import nn
from edgekeeper.losses import L2
from edgekeeper.models import SRModel
from edgekeeper.spec import spec
from edgekeeper.training.recipe import Data, Optim, Recipe, Stage, Term

class Mine(SRModel):
    def __init__(self, *, scale: int = 2) -> None:
        super().__init__()
        self.scale, self.channels, self.receptive_field = scale, "rgb", 1
        self.net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, lr):
        return self.net(lr)

def local():
    class Inner(Mine):
        pass
    return Inner

recipe = Recipe(
    name="mine",
    model=spec(MODEL, scale=2),
    data=Data(patch=16, batch=2),
    stages=(Stage("all", 9, Optim(learning_rate=1e-3), (Term("pixel", spec(L2)),)),),
)
"""


def test_from_the_recipe_s_file_to_an_image(
    run_process: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    photos, recipe, toml = tmp_path / "photos", tmp_path / "mine.py", tmp_path / "mine.toml"
    photos.mkdir()
    photo = photos / "a.png"
    numbers = np.random.default_rng(0)
    Image.fromarray(numbers.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(photo)
    store, out, large = tmp_path / "store", tmp_path / "run", tmp_path / "b.png"
    prepare = ("data", "prepare", photos, "-o", store, "--scales", "2,4", "--min-side", "8")
    assert run_process(*prepare)[0] == 0
    train = ("--store", store, "--out", out, "--set", "data.batch=1")
    limit = ("--time-limit", "0.000001")

    recipe.write_text(RECIPE.replace("MODEL", "local()"))
    status, _, said = run_process("train", recipe, *train)
    assert status == 2 and "could not be loaded again" in said

    recipe.write_text(RECIPE.replace("MODEL", "Mine"))
    status, shown, said = run_process("recipes", "show", recipe, "--toml")
    assert status == 0, said
    toml.write_bytes(shown)
    status, shown, said = run_process("train", toml, "--import", recipe, *train, *limit)
    assert status == 0 and b"Stopped (time limit) after 1 of 9 steps" in shown, said

    state = out / "last.safetensors"
    status, _, said = run_process("upscale", photo, "-o", large, "--model", state)
    assert status == 2 and "--import FILE" in said
    upscale = ("upscale", photo, "-o", large, "--model", state, "--import", recipe)
    assert run_process(*upscale)[0] == 0
    with Image.open(large) as opened:
        assert opened.size == (96, 96)
    drawn = tmp_path / "crops.png"
    crops = ("figure", "crops", "bicubic", state, "--hr", photo, "--scale", "2", "-o", drawn)
    status, _, said = run_process(*crops)
    assert status == 2 and "--import FILE" in said and not drawn.exists()
    status, _, said = run_process(*crops, "--import", recipe)
    assert status == 0, said
    with Image.open(drawn) as opened:
        assert opened.width > opened.height > 100  # three panels in a row

    start = ("train", "spsr_small", "--store", store, "--out", tmp_path / "no", "--start", state)
    status, _, said = run_process(*start, "--import", recipe, "--no-validation")
    assert status == 2 and "does not fit SPSR" in said
    assert "that do: spsr, spsr_code" in said and not (tmp_path / "no").exists()

    card = run_process("models", "card", state, "--import", recipe)[1].decode()
    assert "after 1 of 9 updates" in card
    # The same command with the Python file goes on: the recipe is the same.
    status, shown, said = run_process("train", recipe, *train)
    assert status == 0 and b"Finished after 9 steps" in shown, said


def test_a_network_of_one_s_own_teaches_and_the_card_says_so(
    run_process: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    photos, recipe = tmp_path / "photos", tmp_path / "mine.py"
    plain, taught, one, two, three = (tmp_path / name for name in ("p", "t", "1", "2", "3"))
    network = "model.safetensors"
    photos.mkdir()
    numbers = np.random.default_rng(0)
    Image.fromarray(numbers.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(photos / "a.png")
    recipe.write_text(RECIPE.replace("MODEL", "Mine").replace('"all", 9', '"all", 2'))
    prepare = ("data", "prepare", photos, "--licence", "CC0-1.0", "--min-side", "8")
    train = ("train", recipe, "--no-validation")
    assert run_process(*prepare, "-o", plain, "--scales", "2")[0] == 0
    assert run_process(*train, "--store", plain, "--out", one)[0] == 0

    status, _, said = run_process(*prepare, "-o", tmp_path / "no", "--share", "0.5")
    assert status == 2 and "name a network with --teacher" in said
    teach = (*prepare, "-o", taught, "--teacher", one / network, "--import", recipe)
    for share in ("nan", "0", "1.5"):
        status, _, said = run_process(*teach, "--share", share)
        assert status == 2 and f"--share is {share}; give a number above 0, at most 1" in said
    status, _, said = run_process(*teach)  # at the scale of the teacher
    assert status == 0, said
    assert run_process(*train, "--store", taught, "--out", two)[0] == 0
    after = ("--start", two / network, "--store", plain, "--out", three)
    assert run_process(*train, *after)[0] == 0
    show = ("models", "card", "--import", recipe)
    for folder, who in ((two, "  taught by model (SHA-256 "), (three, "  an ancestor was tau")):
        _, shown, said = run_process(*show, folder / network)
        assert who in shown.decode() and "0.8 of its result in HR" in shown.decode(), said
    shipped = ("train", "fast_x2_distilled", "--no-validation", "--set", "data.patch=32")
    for store, warned in ((plain, True), (taught, False)):
        out = tmp_path / f"shipped{warned}"
        status, _, said = run_process(
            *shipped, "--time-limit", "1e-6", "--store", store, "--out", out
        )
        assert status == 0 and warned is ("`edgekeeper data prepare --teacher` makes one" in said)
