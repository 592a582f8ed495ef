"""``edgekeeper demo``: a photograph enlarged, a figure, and some minutes of training."""

import time
from pathlib import Path

import click

from edgekeeper.cli.options import PATH, console
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
    from edgekeeper.api import upscale
    from edgekeeper.data.degrade import make_lr
    from edgekeeper.figures.images import comparison
    from edgekeeper.figures.rows import Panel
    from edgekeeper.image import Image, from_tensor, read_image, to_rgb_tensor, write_image
    from edgekeeper.inference import Request, upscale_file
    from edgekeeper.ops.resize import imresize
    from edgekeeper.pretrained.zoo import default_name

    hr = to_rgb_tensor(read_image(photo))
    lr = make_lr(hr, scale=_SCALE, kernel="matlab_uint8")
    small, large = out / "photo_small.png", out / f"photo_x{_SCALE}.png"
    write_image(Image(pixels=from_tensor(lr)), small, overwrite="replace")
    result = upscale_file(small, large, request=Request(scale=_SCALE, existing="replace"))
    click.echo(f"Enlarged '{photo.name}', shrunk by {_SCALE} before, in {result.seconds:.1f} s:")
    click.echo(
        f"  {small}  the small image\n  {large}  enlarged by the network {default_name(_SCALE)}"
    )
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
    from edgekeeper.recipes.demo import DEMO
    from edgekeeper.training.loop import RunOptions, train

    click.echo("Training ESPCN ×3 from scratch, without and with GV, on the example images:")
    store = prepare_store(
        sources_in(examples / "train", licence="CC0-1.0"),
        out / "store",
        scales=(3,),
        overwrite="replace",
    )
    rows = [("bicubic", 0.0, _scores("bicubic", examples))]
    for name, recipe in DEMO.items():
        started = time.monotonic()
        run = out / "runs" / f"{name}_{time.time_ns()}"
        outcome = train(recipe, store, options=RunOptions(out=run, checkpoint_every=10_000))
        seconds = time.monotonic() - started
        label = "ESPCN with GV" if name.endswith("_gv") else "ESPCN without GV"
        if outcome.model_path is None:
            raise click.Abort
        rows.append((label, seconds, _scores(str(outcome.model_path), examples)))
    _print_table(rows)


def _scores(subject: str, examples: Path) -> dict[str, float]:
    from edgekeeper.evaluation.evaluate import evaluate
    from edgekeeper.metrics.score import mean_scores

    return mean_scores(evaluate(subject, sets=[str(examples / "test")], scale=3, data_root="."))


def _print_table(rows: list[tuple[str, float, dict[str, float]]]) -> None:
    from rich.table import Table

    table = Table(title="Two example photographs ×3, protocol y_matlab")
    for column in ("method", "PSNR dB", "SSIM", "gv_ratio", "gv_gap", "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for label, seconds, means in rows:
        table.add_row(
            label,
            f"{means['psnr']:.2f}",
            f"{means['ssim']:.4f}",
            f"{means['gv_ratio']:.3f}",
            f"{means['gv_gap']:.3f}",
            f"{seconds:.0f}" if seconds else "",
        )
    console().print(table)
