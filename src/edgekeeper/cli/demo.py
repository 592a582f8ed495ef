"""``edgekeeper demo``: a photograph enlarged, a figure, and some minutes of training."""

import time
from pathlib import Path

import click

from edgekeeper.cli.options import PATH
from edgekeeper.cli.scoring import show_table
from edgekeeper.errors import InputError
from edgekeeper.files import make_folder

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
    """Upscale an example ×4, draw the comparison, and train ESPCN ×3 with and without GV."""
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
    click.echo(f"  {figure}  bicubic, faithful, sharp and the original side by side\n")


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
