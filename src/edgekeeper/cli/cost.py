"""``edgekeeper cost``."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.options import (
    SCALES,
    check_new_file,
    chosen_device,
    console,
    data_option,
    device_option,
    force_option,
    needed_data,
)
from edgekeeper.cli.scoring import weights_folder, weights_option
from edgekeeper.errors import InputError
from edgekeeper.files import write_text

if TYPE_CHECKING:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.models import SRModel

Record = dict[str, Any]
QUALITY_PROTOCOL = "y_matlab"
QUALITY_METRICS = ("psnr", "ssim", "lpips")


@click.command(
    "cost",
    epilog="Example: edgekeeper cost espcn_x4 edsr_light_x4 rrdb dgggan:body=lr --scale 4",
)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option(
    "--scale",
    type=SCALES,
    default=4,
    show_default=True,
    help="Factor of classes, and of the networks that ship when no MODEL is given.",
)
@click.option(
    "--size",
    default="50x50",
    show_default=True,
    metavar="HEIGHTxWIDTH",
    help="The LR image, in pixels; Table 5 of DGGGAN is reproduced at 50x50.",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Whether to run the networks for seconds and memory.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Passes of which the median is given.",
)
@click.option(
    "--on",
    "set_name",
    metavar="SET",
    help="Also score networks with trained weights on this benchmark set, for "
    "`figure quality-cost`.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write everything as JSON too."
)
@force_option()
@data_option()
@weights_option()
@device_option()
def command(
    models: tuple[str, ...],
    scale: int,
    size: str,
    measure: bool,
    repeats: int,
    set_name: str | None,
    json_file: Path | None,
    force: bool,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Count parameters, multiply-accumulates and FLOPs, and measure seconds and memory.

    A MODEL is a network that ships, a network file, or a class with arguments such as `spsr` or
    `edsr:width=256,blocks=32`; without any, all that ship for --scale.
    """
    from edgekeeper.evaluation.tables import as_rich

    check_new_file(json_file, option="--json", force=force)
    records = cost_records(
        models or shipped(scale),
        scale=scale,
        size=image_size(size),
        repeats=repeats if measure else None,
        device=chosen_device(device),
        set_name=set_name,
        data=data,
        weights=weights,
    )
    console().print(as_rich(cost_table(records)))
    if json_file is not None:
        write_text(json_file, json.dumps({"networks": records}, indent=1) + "\n")
        click.echo(f"Wrote {json_file}")


def shipped(scale: int) -> tuple[str, ...]:
    """Return the names of the networks that ship for a scale."""
    from edgekeeper.pretrained.zoo import networks

    return tuple(network.name for network in networks() if network.scale == scale)


def cost_records(
    models: tuple[str, ...],
    *,
    scale: int,
    size: tuple[int, int],
    repeats: int | None,
    device: str,
    set_name: str | None = None,
    data: Path | None = None,
    weights: Path | None = None,
) -> list[Record]:
    """One record for each network, all plain values; ``repeats`` None measures nothing."""
    from edgekeeper.errors import UnavailableError
    from edgekeeper.evaluation.cost import (
        Count,
        count,
        count_with_gradient,
        find_network,
        has_trained_weights,
        measure,
    )

    root = needed_data(data) if set_name else None
    # All are looked up before the first is measured.
    found = [(text, find_network(text, scale=scale)) for text in models]
    records: list[Record] = []
    for text, model in found:
        trained = has_trained_weights(text)
        record: Record = {"network": Path(text).stem if trained else text}
        record |= {"class": type(model).__name__, "scale": model.scale}
        try:
            counted: Count | None = count(model, size=size)
        except UnavailableError as error:
            counted = None
            record["unavailable"] = str(error)
        record["size"] = list(size)
        record |= {
            "parameters": counted and counted.parameters,
            "macs": counted and counted.macs,
            "macs_per_lr_pixel": counted and counted.macs_per_pixel,
            "bias_outputs": counted and counted.bias_outputs,
            "flops_table5": counted and counted.flops,
        }
        mapped = count_with_gradient(model, size=size)
        if mapped is not None:
            record["flops_table5_with_gradient_map"] = mapped.flops
        model = model.to(device)
        taken = measure(model, size=size, repeats=repeats) if repeats else None
        record["measured"] = taken and asdict(taken)
        scored = root is not None and set_name is not None and trained
        record["quality"] = (
            _quality(model, set_name=str(set_name), root=root, weights=weights)
            if scored and root
            else None
        )
        records.append(record)
    return records


def _quality(model: "SRModel", *, set_name: str, root: Path, weights: Path | None) -> Record:
    """Mean PSNR, SSIM and LPIPS on a set, None where there is none."""
    from edgekeeper.evaluation.evaluate import evaluate, summarise

    scores = evaluate(
        model,
        sets=[set_name],
        scale=model.scale,
        data_root=root,
        protocol=QUALITY_PROTOCOL,
        metrics=QUALITY_METRICS,
        weights=weights_folder(weights, data=root),
    )
    means = summarise(scores)[0].means
    return {
        "set": set_name.lower(),
        "protocol": QUALITY_PROTOCOL,
        **{metric: means.get(metric) for metric in QUALITY_METRICS},
    }


def cost_table(records: list[Record]) -> "Table":
    """Return the records as a table, conditions below."""
    from edgekeeper.evaluation.tables import NOTHING, Column, Table

    def scaled(value: float | None, *, unit: float, digits: int) -> str:
        return NOTHING if value is None else f"{value / unit:,.{digits}f}"

    measured = [record["measured"] for record in records if record["measured"]]
    scored = [record["quality"] for record in records if record["quality"]]
    columns = [Column("network")]
    titles = ["×", "parameters", "MAC per LR pixel", "GMAC", "GFLOPs, Table 5"]
    titles += ["ms", "peak MB"] * bool(measured)
    titles += ["PSNR", "LPIPS"] * bool(scored)
    columns += [Column(title, "right") for title in titles]
    rows = []
    for record in records:
        quality = record["quality"] or {}
        row = [record["network"], str(record["scale"])]
        row += [
            scaled(record["parameters"], unit=1, digits=0),
            scaled(record["macs_per_lr_pixel"], unit=1, digits=0),
            scaled(record["macs"], unit=1e9, digits=3),
            scaled(record["flops_table5"], unit=1e9, digits=3),
        ]
        row += _measured_cells(record["measured"]) if measured else []
        if scored:
            row.append(scaled(quality.get("psnr"), unit=1, digits=2))
            row.append(scaled(quality.get("lpips"), unit=1, digits=4))
        rows.append(tuple(row))
    return Table(
        "What networks cost", tuple(columns), tuple(rows), _notes(records, measured, scored)
    )


def _notes(records: list[Record], measured: list[Record], scored: list[Record]) -> tuple[str, ...]:
    """Return the conditions of the numbers."""
    height, width = records[0]["size"]
    notes = [
        f"LR image of {height}x{width} pixels. MAC: multiply-accumulates of convolutions, "
        "transposed convolutions and linear layers. Table 5 of DGGGAN: 2 (MAC + outputs with a "
        "bias); it has LR 50x50."
    ]
    mapped = [record for record in records if "flops_table5_with_gradient_map" in record]
    if mapped:
        named = ", ".join(
            f"{record['network']} {record['flops_table5_with_gradient_map'] / 1e9:,.3f}"
            for record in mapped
        )
        notes.append(
            "GFLOPs with the SR gradient map, which is made in training only and which Table 5 "
            f"counts: {named}."
        )
    if measured:
        first = measured[0]
        several = f"Median of {first['repeats']} passes"
        notes.append(
            f"{several if first['repeats'] > 1 else 'One pass'}, float32, {first['device']}, "
            f"{first['threads']} thread{'s' * (first['threads'] != 1)}; peak memory is beyond the "
            "loaded network."
        )
    if scored:
        notes.append(f"Scored on {scored[0]['set']} under '{scored[0]['protocol']}'.")
    notes += dict.fromkeys(record["unavailable"] for record in records if "unavailable" in record)
    return tuple(notes)


def _measured_cells(measured: Record | None) -> list[str]:
    from edgekeeper.evaluation.tables import NOTHING

    if measured is None:
        return [NOTHING] * 2
    peak = measured["peak_bytes"]
    return [
        f"{1e3 * measured['seconds']:,.1f}",
        NOTHING if peak is None else f"{peak / 1e6:,.1f}",
    ]


def image_size(text: str) -> tuple[int, int]:
    """Height and width of ``--size``; raises InputError for anything else."""
    found = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", text)
    if found is None:
        raise InputError(f"--size is '{text}'; give height and width in pixels, such as 50x50.")
    return int(found[1]), int(found[2])
