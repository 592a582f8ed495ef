"""``edgekeeper export``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekeeper.cli.options import PATH, force_option

if TYPE_CHECKING:
    from edgekeeper.inference.export import Exported


@click.command(
    "export", epilog="Example: edgekeeper export edsr_light_x2 --to openvino --int8 photos/"
)
@click.argument("model")
@click.option(
    "--to",
    "runtime",
    type=click.Choice(["onnx", "openvino"]),
    required=True,
    help="The format: one .onnx file, or OpenVINO's .xml with a .bin beside it.",
)
@click.option("-o", "--output", type=PATH, help="The file to write. Default: the network's name.")
@click.option(
    "--int8",
    "calibration",
    type=PATH,
    metavar="FOLDER",
    help="Compute in eight bits, calibrated on some images of FOLDER; says what is lost on others.",
)
@click.option(
    "--keep",
    type=click.Choice(["ends", "first", "none"]),
    default="ends",
    help="With --int8: the layers that stay in float, first and last, first, or none.",
)
@click.option(
    "--allowed-loss",
    type=float,
    default=0.2,
    metavar="DB",
    help="Leave no int8 file that loses more.",
)
@force_option()
def export_command(
    model: str,
    runtime: str,
    output: Path | None,
    calibration: Path | None,
    keep: str,
    allowed_loss: float,
    force: bool,
) -> None:
    """Write the network MODEL (name or file) for ONNX Runtime or OpenVINO.

    The file takes images of any size. Before it is left, it is run at three sizes and its
    images and their gradients are compared with the original's.
    """
    from edgekeeper.inference.export import export_network

    bits, suffix = "_int8" if calibration else "", ".onnx" if runtime == "onnx" else ".xml"
    found = export_network(
        model,
        output or Path(f"{Path(model).stem}{bits}{suffix}"),
        runtime=runtime,  # type: ignore[arg-type]
        calibration=calibration,
        keep=keep,  # type: ignore[arg-type]
        allowed_loss_db=allowed_loss,
        overwrite="replace" if force else "refuse",
    )
    for line in _report(found):
        click.echo(line)


def _report(found: "Exported") -> list[str]:
    near, loss = found.agreement, found.loss
    lines = [f"Wrote {found.path} ({found.path.stat().st_size / 1e6:.2f} MB)"]
    if found.path.suffix.lower() == ".xml":
        weights = found.path.with_suffix(".bin")
        lines = [f"Wrote {found.path} and {weights.name} ({weights.stat().st_size / 1e6:.2f} MB)"]
    if loss is None:
        lines.append(
            f"Against the original at three sizes: pixels differ by at most {near.pixels:.1e}, "
            f"gradients by {near.gradients:.1e} (of 1)."
        )
        return lines
    lines += [
        f"Calibrated on {loss.calibrated_on}, measured on {loss.images} other images "
        "(luma, y_matlab):",
        f"  PSNR    float32 {loss.psnr_float:.3f} dB, int8 {loss.psnr_int8:.3f} dB: "
        f"{loss.db:.3f} dB lost; int8 against float32 {loss.psnr_between:.2f} dB",
        f"  gv_gap  float32 {loss.gv_gap_float:.4f}, int8 {loss.gv_gap_int8:.4f}",
    ]
    return lines
