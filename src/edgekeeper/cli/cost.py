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
from edgekeeper.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from edgekeeper.evaluation.tables import Table
    from edgekeeper.models import SRModel

# What is known of a network's cost and quality: plain values, as they go into the JSON
Record = dict[str, Any]
QUALITY_PROTOCOL = "y_matlab"
QUALITY_METRICS = ("psnr", "ssim", "lpips")

# Group, title, key, what it is divided by, digits; groups that no network has are left out.
_COLUMNS = (
    ("counted", "parameters", "parameters", 1, 0),
    ("counted", "MAC per LR pixel", "macs_per_lr_pixel", 1, 0),
    ("counted", "GMAC", "macs", 1e9, 3),
    ("counted", "GFLOPs, Table 5", "flops_table5", 1e9, 3),
    ("measured", "ms", "seconds", 1e-3, 1),
    ("measured", "peak MB", "peak_bytes", 1e6, 1),
    ("quality", "PSNR", "psnr", 1, 2),
    ("quality", "LPIPS", "lpips", 1, 4),
)


@click.command(
    "cost", epilog="Example: edgekeeper cost espcn_x4 edsr_light_x4 rrdb dgggan:body=lr --scale 4"
)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option(
    "--scale", type=SCALES, default=4, help="Of classes, and of what ships without MODEL."
)
@click.option("--size", default="50x50", metavar="HEIGHTxWIDTH", help="The LR image, in pixels.")
@click.option("--measure/--no-measure", default=True, help="Whether to take seconds and memory.")
@repeats_option
@click.option("--on", "set_name", metavar="SET", help="Also score trained networks on this set.")
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
    from edgekeeper.evaluation.cost import find_network, has_trained_weights
    from edgekeeper.evaluation.cost import measure as measured
    from edgekeeper.pretrained.zoo import networks

    pixels, on = _image_size(size), chosen_device(device)
    root = needed_data(data) if set_name else Path()
    names = models or tuple(one.name for one in networks() if one.scale == scale)
    records: list[Record] = []
    # All are looked up before the first is measured.
    for text, model in [(text, find_network(text, scale=scale)) for text in names]:
        trained = has_trained_weights(text)
        record: Record = {"network": Path(text).stem if trained else text}
        record |= {"class": type(model).__name__, "scale": model.scale}
        record |= _counted(model, size=pixels)
        model = model.to(on)
        taken = measured(model, size=pixels, repeats=repeats) if measure else None
        record |= {"measured": taken and asdict(taken), "quality": None}
        if set_name and trained:
            record["quality"] = _quality(model, set_name=set_name, root=root, weights=weights)
        records.append(record)
    show_table(_cost_table(records))
    write_json(json_file, {"networks": records})


def _image_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", text)
    if found is None:
        raise InputError(f"--size is '{text}'; give height and width in pixels, such as 50x50.")
    return int(found[1]), int(found[2])


def _counted(model: "SRModel", *, size: tuple[int, int]) -> Record:
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
        data_root=root,
        protocol=QUALITY_PROTOCOL,
        metrics=QUALITY_METRICS,
        weights=weights_folder(weights, data=root),
    )
    means = mean_scores(scores)
    quality: Record = {"set": set_name.lower(), "protocol": QUALITY_PROTOCOL}
    return quality | {metric: means.get(metric) for metric in QUALITY_METRICS}


def _cost_table(records: list[Record]) -> "Table":
    from edgekeeper.evaluation.tables import NOTHING, Table

    shown = [c for c in _COLUMNS if c[0] == "counted" or any(one[c[0]] for one in records)]
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
    key = "flops_table5_with_gradient_map"
    mapped = [f"{one['network']} {one[key] / 1e9:,.3f}" for one in records if key in one]
    if mapped:
        notes.append(
            "GFLOPs with the SR gradient map, which is made in training only and which Table 5 "
            f"counts: {', '.join(mapped)}."
        )
    if first := next((one["measured"] for one in records if one["measured"]), None):
        passes = f"Median of {first['repeats']} passes" if first["repeats"] > 1 else "One pass"
        notes.append(
            f"{passes}, float32, {first['device']}, {threads(first)}; peak memory is beyond the "
            "loaded network."
        )
    if scored := next((one["quality"] for one in records if one["quality"]), None):
        notes.append(f"Scored on {scored['set']} under '{scored['protocol']}'.")
    notes += dict.fromkeys(one["unavailable"] for one in records if "unavailable" in one)
    return tuple(notes)


def threads(measured: Record) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{measured['threads']} thread{'s' * (measured['threads'] != 1)}"
