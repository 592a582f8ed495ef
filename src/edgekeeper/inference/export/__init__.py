"""Networks written as ONNX or OpenVINO files that were checked before they were left.

    export_network("edsr_light_x2", "light.onnx")
    export_network("edsr_light_x2", "light.xml", calibration="photos/")     # 8 bits

Each file says its scale, colour, receptive field and card; ``pretrained.exported`` runs it.
"""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekeeper.errors import CheckpointError, InputError, check_choice
from edgekeeper.files import deliver, make_folder, new_file, sha256_of
from edgekeeper.inference.export.convert import Agreement, check, onnx_model, write
from edgekeeper.inference.export.int8 import (
    Keep,
    QuantisationLoss,
    float_layers,
    measure_loss,
    quantised,
    split_images,
)
from edgekeeper.models import SRModel
from edgekeeper.pretrained.checkpoint import code_version, read_tensors
from edgekeeper.pretrained.exported import (
    EXPORTED_SUFFIXES,
    RUNTIMES,
    ExportedNetwork,
    ExportPrecision,
    Runtime,
    load_exported,
    needed,
    providers_for,
)
from edgekeeper.pretrained.zoo import EXPORT_FORMAT, cached_export, find, is_export_of, is_own, load

__all__ = ["Agreement", "Exported", "Keep", "QuantisationLoss", "export_network", "with_runtime"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written: where, how near it is to the torch network, what int8 costs."""

    path: Path
    agreement: Agreement
    loss: QuantisationLoss | None


def export_network(
    model: str | Path | SRModel,
    target: str | Path,
    *,
    runtime: Runtime | Literal["by name"] = "by name",
    calibration: str | Path | None = None,
    keep: Keep = "ends",
    allowed_loss_db: float = 0.2,
    overwrite: Literal["refuse", "replace"] = "refuse",
) -> Exported:
    """Return the file ``target`` (``.onnx``, or ``.xml`` with a ``.bin`` beside it), checked.

    Sizes stay open. The file is run at three sizes and compared with the torch network, pixels and
    gradients, before it gets its name. With a folder of ``calibration`` images the convolutions
    compute in eight bits but for those that ``keep`` names; some of the images give the ranges, on
    the others the loss is measured, which is stored in the file.
    ``runtime`` says which format the file extension has to be of.
    Raises InputError: no such network, one that PyTorch cannot export or that is an exported file,
    another file extension, a file that exists, too few images; CheckpointError: the file's images
    differ, or int8 loses more than ``allowed_loss_db``; UnavailableError: a package is not
    installed.
    """
    target = Path(target)
    suffix = target.suffix.lower()
    if suffix not in EXPORTED_SUFFIXES:
        raise InputError(
            f"'{target}' must end in {' or '.join(EXPORTED_SUFFIXES)} to say the format."
        )
    if runtime not in ("by name", EXPORTED_SUFFIXES[suffix]):
        raise InputError(
            f"A file for {runtime} does not end in {target.suffix}; rename '{target}'."
        )
    if target.exists() and overwrite == "refuse":
        raise InputError(f"'{target}' exists; choose another name or replace it (--force).")
    runtime = EXPORTED_SUFFIXES[suffix]
    _need_packages(runtime)
    network, facts = _network_and_facts(model)
    split = split_images(Path(calibration), scale=network.scale) if calibration else None
    onnx = onnx_model(network)
    make_folder(target.parent)
    with new_file(target, overwrite=overwrite, error=CheckpointError) as draft:
        facts["precision"] = "float32"
        write(draft, onnx, facts=facts)
        agreement = check(load_exported(draft), network)
        loss = None
        if split is not None:
            kept = float_layers(onnx, network, keep=keep)
            onnx = quantised(onnx, network, images=split.calibrate, runtime=runtime, kept=kept)
            write(draft, onnx, facts=facts)
            loss = measure_loss(load_exported(draft), network, split=split)
            _refuse(loss, allowed=allowed_loss_db)
            facts |= {"precision": "int8", "int8": {"float_layers": kept, **loss.to_json()}}
            write(draft, onnx, facts=facts)
            agreement = check(load_exported(draft), network, kind="int8")
        if runtime == "openvino":  # the weights first, since the .xml needs them
            deliver(draft.with_suffix(".bin"), target.with_suffix(".bin"), error=CheckpointError)
    return Exported(path=target, agreement=agreement, loss=loss)


def with_runtime(
    model: str | Path | SRModel,
    *,
    runtime: Runtime,
    precision: ExportPrecision = "float32",
    threads: int | None = None,
    device: str = "cpu",
) -> ExportedNetwork:
    """Return the network run by ONNX Runtime or OpenVINO, exported to the cache unless it is there.

    The cache is the folder ``exports`` of ``files.user_cache``; files there are found by the digest
    of the network's file, or of its layers and weights; the latter are compared with the network
    again.
    ``precision="bfloat16"`` is OpenVINO's. For 8 bits export a file and load that.
    Raises InputError: no such network, runtime or precision; UnavailableError: not installed;
    CheckpointError: the exported network differs.
    """
    check_choice("runtime", runtime, known=RUNTIMES)
    if runtime == "onnx" and precision != "float32":
        raise InputError(f"ONNX Runtime has no {precision} here; use runtime 'openvino' for it.")
    _need_packages(runtime)
    providers_for(device)  # refused before the export, which takes long
    digest = _digest(model) if isinstance(model, SRModel) else sha256_of(find(model))
    target = cached_export(digest, runtime=runtime)
    original = model if isinstance(model, SRModel) else None
    if not target.is_file() or not _is_whole(target, original, digest):
        export_network(model, target, overwrite="replace")
    return load_exported(target, threads=threads, precision=precision, device=device)


def _digest(model: SRModel) -> str:
    found = hashlib.sha256(f"{type(model).__module__} {model.scale} {model}".encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()


def _is_whole(file: Path, model: SRModel | None, digest: str) -> bool:
    """Return whether the file is not cut and still the network's, whose code may have changed."""
    try:
        exported = load_exported(file)
        if model is None:
            return is_export_of(exported, digest)
        check(exported, copy.deepcopy(model).cpu().float())
    except (CheckpointError, MemoryError, RuntimeError):
        return False
    return True


def _need_packages(runtime: Runtime) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", RUNTIMES[runtime]):
        needed(package, extra=runtime)


def _network_and_facts(model: str | Path | SRModel) -> tuple[SRModel, dict[str, object]]:
    card: object = {}
    source: dict[str, object] = {}
    if isinstance(model, SRModel) and not isinstance(model, ExportedNetwork):
        network = copy.deepcopy(model).cpu().float().eval()
        description: object = {"name": type(model).__name__}
    else:
        path = model.path if isinstance(model, ExportedNetwork) else find(model)
        if path.suffix.lower() in EXPORTED_SUFFIXES:
            raise InputError(
                f"'{path}' is an exported file already; export the network that it came from."
            )
        network = load(path).eval()
        file = read_tensors(path).facts if is_own(path) else {}
        description = file.get("model", {"name": type(network).__name__})
        card = file.get("card", {})
        source = {"name": path.stem, "sha256": sha256_of(path)}
    return network, {
        "format": EXPORT_FORMAT,
        "scale": network.scale,
        "channels": network.channels,
        "value_range": [0, 1],
        "receptive_field": network.receptive_field,
        "overlap": network.overlap,
        "multiple": network.multiple,
        "border": network.border,
        "model": description,
        "source": source,
        "card": card,
        "exported_by": code_version(),
    }


def _refuse(loss: QuantisationLoss, *, allowed: float) -> None:
    if not loss.db <= allowed:  # not a number is refused too
        raise CheckpointError(
            f"In eight bits the network loses {loss.db:.3f} dB on {loss.images} image"
            f"{'s' if loss.images > 1 else ''} that did not calibrate; {allowed:g} dB are allowed. "
            "No file was left: give more varied images, allow more with --allowed-loss, or export "
            "without --int8."
        )
