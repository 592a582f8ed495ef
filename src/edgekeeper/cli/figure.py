"""``edgekeeper figure NAME``: one command for each figure."""

import json
from pathlib import Path

import click

from edgekeeper.cli.figure_branch import branch, guidance
from edgekeeper.cli.figure_cost import quality_cost
from edgekeeper.cli.figure_edge import edge
from edgekeeper.cli.figure_options import output_option
from edgekeeper.cli.figure_results import comparison, crops, gradients, variances
from edgekeeper.errors import DataError, nearest_name


class FigureGroup(click.Group):
    """The figures in the order they are listed; an unknown one is answered with the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the figures."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The figure; an unknown name is an error with the nearest one."""
        if cmd_name not in self.commands:
            nearest = nearest_name(cmd_name, self.commands)
            hint = f" Did you mean '{nearest}'?" if nearest else ""
            raise click.UsageError(
                f"There is no figure '{cmd_name}'.{hint} Known: {', '.join(self.commands)}.", ctx
            )
        return self.commands[cmd_name]


@click.command(
    "frontier",
    short_help="Fidelity against sharpness, a point for each network.",
    epilog="Example: edgekeeper figure frontier results/frontier.json -o frontier.svg",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option()
def frontier(files: tuple[Path, ...], output: Path) -> None:
    """Draw PSNR against gradient variance ratio from the JSON of benchmarks/frontier.py."""
    from edgekeeper import figures

    points = []
    for file in files:
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))["points"]
            points += [
                figures.Point(f"{r['weight']:g}", r["psnr"], r["gv_ratio"], r["form"]) for r in rows
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"'{file}' is not a file of benchmarks/frontier.py: {error}."
            ) from error
    figures.frontier(points, path=output)
    click.echo(f"Wrote {output}")


FIGURES: tuple[click.Command, ...] = (
    crops,
    comparison,
    gradients,
    variances,
    edge,
    branch,
    guidance,
    frontier,
    quality_cost,
)


@click.group(
    "figure",
    cls=FigureGroup,
    commands=FIGURES,
    epilog="Example: edgekeeper figure crops bicubic edsr_light_x4 --hr photo.png -o crops.svg",
)
def command() -> None:
    """Draw a paper's figure for any networks, folders of results and pictures."""
