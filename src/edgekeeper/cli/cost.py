"""``edgekeeper cost``."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekeeper.cli.options import SCALES, chosen_device, data_option, device_option, needed_data
from edgekeeper.cli.scoring import (
    json_option,
    repeats_option,
    show_table,
    weights_folder,
    weights_option,
    write_json,
)
from edgekeeper.errors import InputError

if TYPE_CHECKING:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.models import SRModel

Record = dict[str, Any]
"""What is known of a network's cost and quality: plain values, as they go into the JSON."""

QUALITY_PROTOCOL = "y_matlab"
QUALITY_METRICS = ("psnr", "ssim", "lpips")


@click.command(
    "cost", epilog="Example: edgekeeper cost espcn_x4 edsr_light_x4 rrdb dgggan:body=lr --scale 4"
)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option(
    "--scale",
    type=SCALES,
    default=4,
    help="Factor of classes, and of the networks that ship when no MODEL is given.",
)
@click.option(
    "--size",
    default="50x50",
    metavar="HEIGHTxWIDTH",
    help="The LR image, in pixels; Table 5 of DGGGAN is reproduced at 50x50.",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Whether to run the networks for seconds and memory.",
)
@repeats_option
@click.option(
    "--on",
    "set_name",
    metavar="SET",
    help="Also score networks with trained weights on this benchmark set, for "
    "`figure quality-cost`.",
)
@json_option()
@data_option()
@weights_option
@device_option()
def cost_command(
    models: tuple[str, ...],
    scale: int,
    size: str,
    measure: bool,
    repeats: int,
    set_name: str | None,
    json_file: Path | None,
    data: Path | None,
    weights: Path | None,
    device: str,
) -> None:
    """Count parameters, multiply-accumulates and FLOPs, and measure seconds and memory.

    A MODEL is a network that ships, a network file, or a class with arguments such as `spsr` or
    `edsr:width=256,blocks=32`; without any, all that ship for --scale.
    """
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
    show_table(cost_table(records))
    write_json(json_file, {"networks": records})


def shipped(scale: int) -> tuple[str, ...]:
    """Return the names of the networks that ship for a scale."""
    from edgekeeper.pretrained.zoo import networks

    return tuple(network.name for network in networks() if network.scale == scale)


def image_size(text: str) -> tuple[int, int]:
    """Height and width of ``--size``; raises InputError for anything else."""
    found = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", text)
    if found is None:
        raise InputError(f"--size is '{text}'; give height and width in pixels, such as 50x50.")
    return int(found[1]), int(found[2])


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
    from edgekeeper.evaluation.cost import find_network, has_trained_weights, measure

    root = needed_data(data) if set_name else None
    # All are looked up before the first is measured.
    found = [(text, find_network(text, scale=scale)) for text in models]
    records: list[Record] = []
    for text, model in found:
        trained = has_trained_weights(text)
        record: Record = {"network": Path(text).stem if trained else text}
        record |= {"class": type(model).__name__, "scale": model.scale}
        record |= _counted(model, size=size)
        model = model.to(device)
        taken = measure(model, size=size, repeats=repeats) if repeats else None
        record["measured"] = taken and asdict(taken)
        record["quality"] = None
        if set_name and root is not None and trained:
            record["quality"] = _quality(model, set_name=set_name, root=root, weights=weights)
        records.append(record)
    return records


def _counted(model: "SRModel", *, size: tuple[int, int]) -> Record:
    from edgekeeper.errors import UnavailableError
    from edgekeeper.evaluation.cost import count, count_with_gradient

    record: Record = {}
    try:
        counted = count(model, size=size)
    except UnavailableError as error:
        counted = None
        record["unavailable"] = str(error)
    record |= {
        "size": list(size),
        "parameters": counted and counted.parameters,
        "macs": counted and counted.macs,
        "macs_per_lr_pixel": counted and counted.macs_per_pixel,
        "bias_outputs": counted and counted.bias_outputs,
        "flops_table5": counted and counted.flops,
    }
    mapped = count_with_gradient(model, size=size)
    return record if mapped is None else record | {"flops_table5_with_gradient_map": mapped.flops}


def _quality(model: "SRModel", *, set_name: str, root: Path, weights: Path | None) -> Record:
    from edgekeeper.evaluation.evaluate import evaluate
    from edgekeeper.metrics.score import mean_scores

    scores = evaluate(
        model,
        sets=[set_name],
        scale=model.scale,
        data_root=root,
        protocol=QUALITY_PROTOCOL,
        metrics=QUALITY_METRICS,
        weights=weights_folder(weights, data=root),
    )
    means = mean_scores(scores)
    quality: Record = {"set": set_name.lower(), "protocol": QUALITY_PROTOCOL}
    return quality | {metric: means.get(metric) for metric in QUALITY_METRICS}


def cost_table(records: list[Record]) -> "Table":
    """Return the records as a table, conditions below."""
    from edgekeeper.evaluation.tables import NOTHING, Table

    # Title, what is divided by what, digits; groups that no network has are left out.
    groups = {
        "counted": (
            ("parameters", "parameters", 1, 0),
            ("MAC per LR pixel", "macs_per_lr_pixel", 1, 0),
            ("GMAC", "macs", 1e9, 3),
            ("GFLOPs, Table 5", "flops_table5", 1e9, 3),
        ),
        "measured": (("ms", "seconds", 1e-3, 1), ("peak MB", "peak_bytes", 1e6, 1)),
        "quality": (("PSNR", "psnr", 1, 2), ("LPIPS", "lpips", 1, 4)),
    }
    shown = [
        (group, *column)
        for group, columns in groups.items()
        for column in columns
        if group == "counted" or any(record[group] for record in records)
    ]
    rows = []
    for record in records:
        cells = [record["network"], str(record["scale"])]
        for group, _, key, unit, digits in shown:
            value = (record if group == "counted" else record[group] or {}).get(key)
            cells.append(NOTHING if value is None else f"{value / unit:,.{digits}f}")
        rows.append(tuple(cells))
    columns = ("network", ">×", *(f">{title}" for _, title, *_ in shown))
    return Table("What networks cost", columns, tuple(rows), _notes(records))


def _notes(records: list[Record]) -> tuple[str, ...]:
    height, width = records[0]["size"]
    notes = [
        f"LR image of {height}x{width} pixels. MAC: multiply-accumulates of convolutions, "
        "transposed convolutions and linear layers. Table 5 of DGGGAN: 2 (MAC + outputs with a "
        "bias); it has LR 50x50."
    ]
    mapped = ", ".join(
        f"{record['network']} {record['flops_table5_with_gradient_map'] / 1e9:,.3f}"
        for record in records
        if "flops_table5_with_gradient_map" in record
    )
    if mapped:
        notes.append(
            "GFLOPs with the SR gradient map, which is made in training only and which Table 5 "
            f"counts: {mapped}."
        )
    for first in [record["measured"] for record in records if record["measured"]][:1]:
        passes = f"Median of {first['repeats']} passes" if first["repeats"] > 1 else "One pass"
        notes.append(
            f"{passes}, float32, {first['device']}, {threads(first)}; peak memory is beyond the "
            "loaded network."
        )
    for first in [record["quality"] for record in records if record["quality"]][:1]:
        notes.append(f"Scored on {first['set']} under '{first['protocol']}'.")
    notes += dict.fromkeys(record["unavailable"] for record in records if "unavailable" in record)
    return tuple(notes)


def threads(measured: Record) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{measured['threads']} thread{'s' * (measured['threads'] != 1)}"
