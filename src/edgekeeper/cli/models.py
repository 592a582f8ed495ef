"""``edgekeeper models``."""

import json
from pathlib import Path

import click

from edgekeeper.cli.options import PATH, Subcommands, data_option, needed_data, new_file_option
from edgekeeper.cli.scoring import show_table
from edgekeeper.errors import InputError


@click.group(
    "models",
    cls=Subcommands,
    invoke_without_command=True,
    epilog="Example: edgekeeper models card edsr_light_x4",
)
@click.option("--json", "as_json", is_flag=True, help="List as JSON, one object per network.")
@click.pass_context
def models_command(context: click.Context, as_json: bool) -> None:
    """Networks: list them (the default), show a card, get public ones, pack or push your own."""
    if context.invoked_subcommand is not None:
        return
    from edgekeeper.pretrained.cards import prices_of
    from edgekeeper.pretrained.zoo import networks

    if not as_json:
        _show()
        return
    for network in networks():
        record = {
            "name": network.name,
            "model": network.model,
            "scale": network.scale,
            "file": str(network.path),
            "card": network.card,
            "sharpness": prices_of(network.name),
        }
        click.echo(json.dumps(record))


def _show() -> None:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.pretrained.cards import (
        decibels,
        line_of,
        prices_of,
        quality_of,
        speed_of,
        style_of,
    )
    from edgekeeper.pretrained.public import PUBLIC, public_path
    from edgekeeper.pretrained.zoo import networks

    rows = []
    for network in sorted(networks(), key=lambda found: (found.scale, found.name)):
        quality = quality_of(network)
        numbers = [f"{quality[s]:.2f}" if s in quality else "" for s in ("set5", "set14")]
        numbers.append(decibels(prices_of(network.name)[0.25][0])[:-3])
        size = network.path.stat().st_size / 1e6
        style, speed = style_of(network.name), speed_of(network)
        scale = f"×{network.scale}"
        rows.append((network.name, scale, f"{size:.2f}", style, speed, *numbers, line_of(network)))
    for name, entry in PUBLIC.items():
        mib = "" if entry.remote.size is None else f"{entry.remote.size / 1e6:.2f}"
        there = "here" if public_path(name).is_file() else "to get"
        line = f"{entry.line}; {entry.licence}"
        rows.append((name, f"×{entry.scale}", mib, entry.style, "slow", "", there, "", line))
    columns = ("name", "scale", ">MB", "style", "speed", ">Set5", ">Set14", ">sharp", "what for")
    show_table(Table("", columns, tuple(rows)))
    click.echo(
        "Set5 and Set14: PSNR in dB under y_matlab; sharp: what --sharpness 0.25 changes it by.\n"
        "All about one: edgekeeper models card NAME.\n"
        "The last ones are published by others and are got by: edgekeeper models get NAME."
    )


@models_command.command("card")
@click.argument("network")
@click.option("--json", "as_json", is_flag=True, help="All of it, each image with its licence.")
def card(network: str, as_json: bool) -> None:
    """Show where NETWORK comes from and what it reaches (name or file)."""
    from edgekeeper.pretrained.cards import card_lines, prices_of
    from edgekeeper.pretrained.zoo import describe, find

    found = describe(find(network))
    if as_json:
        record = {"name": found.name, "scale": found.scale, **found.card}
        click.echo(json.dumps(record | {"sharpness": prices_of(network)}, indent=1))
        return
    for line in card_lines(found):
        click.echo(line)
    click.echo(f"Each image by name: edgekeeper models card {network} --json")


@models_command.command("get", epilog="Example: edgekeeper models get realesr-general-x4v3")
@click.argument("name")
def get_network(name: str) -> None:
    """Download a network that others published: a NAME of `edgekeeper models`, or hf://OWNER/NAME.

    It is kept per user and found by that name afterwards: `upscale --model NAME`.
    """
    from edgekeeper.pretrained.public import PUBLIC, get_public

    path = get_public(name)
    if name in PUBLIC:
        click.echo(f"Licence: {PUBLIC[name].licence}; from {PUBLIC[name].remote.address}")
    click.echo(f"Got {path}")


@models_command.command(
    "push", epilog="Example: edgekeeper models push mine.safetensors hf://me/my-network"
)
@click.argument("network")
@click.argument("address")
def push_network(network: str, address: str) -> None:
    """Upload NETWORK (name or file) with its card to ADDRESS: hf://OWNER/NAME[/FILE]."""
    from edgekeeper.pretrained.cards import card_lines
    from edgekeeper.pretrained.public import hub_address, push
    from edgekeeper.pretrained.zoo import describe, find

    where = hub_address(address)
    if where is None:
        raise InputError(f"'{address}' is no address hf://OWNER/NAME; other places are not known.")
    found = describe(find(network))
    text = "# " + "\n".join(card_lines(found)) + "\n"
    click.echo(f"Wrote {push(found.path, where, card=text)}")


@models_command.command(
    "pack",
    epilog="Example: edgekeeper models pack runs/espcn_x3/model.safetensors -o mine.safetensors",
)
@click.argument("source", type=PATH)
@new_file_option(("-o", "--output"), text="The network file to write.", required=True)
@data_option()
def pack_network(source: Path, output: Path, data: Path | None) -> None:
    """Make a network file with half-precision weights and a scored card from a finished run."""
    from edgekeeper.evaluation.pack import pack

    network = pack(source, output, data_root=needed_data(data))
    click.echo(f"Wrote {network.path} ({network.path.stat().st_size / 1e6:.2f} MB)")
