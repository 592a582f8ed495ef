"""``edgekeeper models``."""

import json
from pathlib import Path

import click

from edgekeeper.cli.options import check_new_file, data_option, force_option, needed_data


@click.group(
    "models",
    invoke_without_command=True,
    epilog="Example: edgekeeper models card edsr_light_x4",
)
@click.option("--json", "as_json", is_flag=True, help="List as JSON, one object per network.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """The networks that ship: list them (the default), show a card, pack one of your own."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per network.")
def list_networks(as_json: bool) -> None:
    """List the networks inside the package."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    from edgekeeper.pretrained.zoo import Network, networks

    def psnr(network: Network) -> str:
        results = network.card.get("results")
        first = results[0] if isinstance(results, list) and results else {}
        return f"{first['psnr']:.2f} dB on {first['set']}" if first else "not scored"

    for network in networks():
        if as_json:
            record = {
                "name": network.name,
                "model": network.model,
                "scale": network.scale,
                "file": str(network.path),
                "card": network.card,
            }
            click.echo(json.dumps(record))
        else:
            size = network.path.stat().st_size / 1e6
            click.echo(f"{network.name:20} ×{network.scale}  {size:5.2f} MB  {psnr(network)}")


@command.command("card")
@click.argument("network")
def card(network: str) -> None:
    """Show where NETWORK comes from and what it reaches (name or file)."""
    from edgekeeper.pretrained.zoo import describe, find

    found = describe(find(network))
    click.echo(json.dumps({"name": found.name, "scale": found.scale, **found.card}, indent=1))


@command.command(
    "pack",
    epilog="Example: edgekeeper models pack runs/espcn_x3/model.safetensors -o mine.safetensors",
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The network file to write.",
)
@force_option("Replace the file if it exists.")
@data_option()
def pack_network(source: Path, output: Path, force: bool, data: Path | None) -> None:
    """Make a network file with half-precision weights and a scored card from a finished run."""
    check_new_file(output, option="--output", force=force)
    from edgekeeper.evaluation.pack import pack

    network = pack(source, output, data_root=needed_data(data))
    click.echo(f"Wrote {network.path} ({network.path.stat().st_size / 1e6:.2f} MB)")
