"""``edgekeeper blend``."""

from pathlib import Path

import click

from edgekeeper.cli.options import SCALES, new_file_option


@click.command(
    "blend",
    epilog="Example: edgekeeper blend fidelity.pth texture.pth --alpha 0.3 -o mine.safetensors",
)
@click.argument("a")
@click.argument("b")
@click.option("--alpha", type=float, required=True, help="From 0, all of A, to 1, all of B.")
@new_file_option(("-o", "--output"), text="The network file to write: .safetensors.", required=True)
@click.option("--scale", type=SCALES, help="For files of weights that do not say their scale.")
def blend_command(a: str, b: str, alpha: float, output: Path, scale: int | None) -> None:
    """Mix the weights of two networks: (1 - alpha) * A + alpha * B.

    Both must be of one kind and size, best trained from one start: a faithful network and one with
    texture made of it, for example. The file's card names both.
    """
    from edgekeeper.pretrained.blend import blend_files

    network = blend_files(a, b, alpha=alpha, target=output, scale=scale)
    click.echo(f"Wrote {network.path}: {network.model} ×{network.scale}, alpha {alpha:g}")
