"""``edgekeeper demo``: a photograph enlarged, two figures, and some minutes of training."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import PATH
from edgekeeper.cli.scoring import show_table
from edgekeeper.errors import InputError
from edgekeeper.files import make_folder

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = 4


@click.command("demo", epilog="Example: edgekeeper demo --out demo")
@click.option(
    "--examples",
    type=PATH,
    default=Path("examples"),
    help="Folder with the folders test and train.",
)
@click.option("--out", type=PATH, default=Path("demo"), help="Folder to write to.")
def demo_command(examples: Path, out: Path) -> None:
    """Upscale an example ×4, draw two figures, and train ESPCN ×3 with and without GV."""
    photo = examples / "test" / "beacon-street-sunset.png"
    if not photo.is_file():
        raise InputError(
            f"There is no '{photo}': run this in the folder of edgekeeper's source, or give its "
            "example images with --examples."
        )
    make_folder(out)
    _upscale(photo, out)
    _train(examples, out)


def _upscale(photo: Path, out: Path) -> None:
    from edgekeeper.data.degrade import make_lr
    from edgekeeper.figures.images import comparison
    from edgekeeper.figures.rows import Panel
    from edgekeeper.image import Image, from_tensor, read_image, to_rgb_tensor, write_image
    from edgekeeper.inference import Request, upscale_file
    from edgekeeper.inference.api import upscale
    from edgekeeper.ops.resize import imresize
    from edgekeeper.pretrained.zoo import DEFAULTS

    hr = to_rgb_tensor(read_image(photo))
    lr = make_lr(hr, scale=_SCALE, kernel="matlab_uint8")
    small, large = out / "photo_small.png", out / f"photo_x{_SCALE}.png"
    write_image(Image(pixels=from_tensor(lr)), small, overwrite="replace")
    result = upscale_file(small, large, request=Request(scale=_SCALE, existing="replace"))
    click.echo(f"Enlarged '{photo.name}', shrunk by {_SCALE} before, in {result.seconds:.1f} s:")
    name = DEFAULTS["faithful"][_SCALE]
    click.echo(f"  {small}  the small image\n  {large}  enlarged by the network {name}")
    figure = out / "comparison.png"
    panels = [
        Panel("bicubic", imresize(lr, scale=_SCALE).clamp(0, 1)),
        Panel("faithful", upscale(lr, scale=_SCALE, style="faithful")),
        Panel("sharp", upscale(lr, scale=_SCALE, style="sharp")),
    ]
    comparison(hr, panels, path=figure, scale=_SCALE)
    click.echo(f"  {figure}  bicubic, faithful, sharp and the original side by side")
    phone = draw_phone(photo.with_name("canyon-wren.png"), out / "photo.png")
    click.echo(f"  {phone}  a photograph as a phone keeps it, enlarged\n")


def draw_phone(photo: Path, path: Path) -> Path:
    """Draw ``photo`` as a phone keeps it, enlarged by Lanczos and by two styles, and as it was."""
    from edgekeeper.data.degrade import degrade_known, find_known
    from edgekeeper.figures.images import crops
    from edgekeeper.figures.rows import Panel, Row
    from edgekeeper.image import read_image, to_rgb_tensor
    from edgekeeper.inference.api import upscale
    from edgekeeper.inference.network import enlarged

    hr = to_rgb_tensor(read_image(photo))
    lr = degrade_known(hr, find_known("camera"), scale=_SCALE)
    panels = [
        Panel("JPEG 70, a quarter of the size", enlarged(lr, _SCALE)),
        Panel("Lanczos", lanczos(lr, scale=_SCALE)),
        Panel("edgekeeper upscale", upscale(lr, scale=_SCALE)),
        Panel("--style texture", upscale(lr, scale=_SCALE, style="texture")),
    ]
    return crops([Row(hr, panels)], path=path)


def lanczos(lr: "Tensor", *, scale: int) -> "Tensor":
    """Return ``lr`` (1, 3, H, W) in [0, 1], enlarged on 8 bits by Lanczos with three lobes."""
    import numpy as np
    import pyvips
    import torch

    from edgekeeper.data.degrade import to_bytes

    pixels = to_bytes(lr)[0].permute(1, 2, 0).contiguous().numpy()
    large = pyvips.Image.new_from_array(pixels).resize(scale, kernel="lanczos3")
    return torch.from_numpy(large.numpy().astype(np.float32) / 255).permute(2, 0, 1)[None]


def _train(examples: Path, out: Path) -> None:
    from edgekeeper.data.prepare import prepare_store, sources_in
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.recipes.demo import DEMO
    from edgekeeper.training.loop import RunOptions, train

    click.echo("Training ESPCN ×3 from scratch, without and with GV, on the example images:")
    store = prepare_store(
        sources_in(examples / "train", licence="CC0-1.0"),
        out / "store",
        scales=(3,),
        overwrite="replace",
    )
    rows = [_cells("bicubic", "bicubic", examples)]
    for name, recipe in DEMO.items():
        started = time.monotonic()
        run = out / "runs" / f"{name}_{time.time_ns()}"
        outcome = train(recipe, store, options=RunOptions(out=run, checkpoint_every=10_000))
        seconds = time.monotonic() - started
        label = "ESPCN with GV" if name.endswith("_gv") else "ESPCN without GV"
        if outcome.model_path is None:
            raise click.Abort
        rows.append(_cells(label, str(outcome.model_path), examples, seconds=seconds))
    columns = ("method", ">PSNR dB", ">SSIM", ">gv_ratio", ">gv_gap", ">seconds")
    show_table(Table("Two example photographs ×3, protocol y_matlab", columns, tuple(rows)))


def _cells(label: str, subject: str, examples: Path, *, seconds: float = 0) -> tuple[str, ...]:
    from edgekeeper.evaluation.evaluate import evaluate
    from edgekeeper.metrics.score import mean_scores

    means = mean_scores(evaluate(subject, sets=[str(examples / "test")], scale=3, data_root="."))
    digits = {"psnr": 2, "ssim": 4, "gv_ratio": 3, "gv_gap": 3}
    numbers = [f"{means[name]:.{count}f}" for name, count in digits.items()]
    return label, *numbers, f"{seconds:.0f}" if seconds else ""
