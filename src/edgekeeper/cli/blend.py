"""``edgekeeper blend``."""

from pathlib import Path

import click

from edgekeeper.cli.options import PATH, SCALES, check_new_file, force_option


@click.command(
    "blend",
    epilog="Example: edgekeeper blend fidelity.pth texture.pth --alpha 0.3 -o mine.safetensors",
)
@click.argument("a")
@click.argument("b")
@click.option("--alpha", type=float, required=True, help="From 0, all of A, to 1, all of B.")
@click.option(
    "-o", "--output", type=PATH, required=True, help="The network file to write: .safetensors."
)
@click.option("--scale", type=SCALES, help="For files of weights that do not say their scale.")
@force_option("Replace the file if it exists.")
def blend_command(
    a: str, b: str, alpha: float, output: Path, scale: int | None, force: bool
) -> None:
    """Mix the weights of two networks: (1 - alpha) * A + alpha * B.

    Both must be of one kind and size, best trained from one start: a faithful network and one with
    texture made of it, for example. The file's card names both.
    """
    from edgekeeper.pretrained.blend import blend_files

    check_new_file(output, option="--output", force=force)
    network = blend_files(a, b, alpha=alpha, target=output, scale=scale)
    click.echo(f"Wrote {network.path}: {network.model} ×{network.scale}, alpha {alpha:g}")
