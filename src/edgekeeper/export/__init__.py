"""Networks written as ONNX or OpenVINO files that were checked before they were left.

    export_network("edsr_light_x2", "light.onnx")
    export_network("edsr_light_x2", "light.xml", calibration="photos/")     # 8 bits

Each file says its scale, colour, receptive field and card; ``pretrained.exported`` runs it.
"""

import copy
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekeeper.checkpoint import code_version, read_tensors
from edgekeeper.errors import CheckpointError, InputError, unknown_name
from edgekeeper.export.check import Agreement, check
from edgekeeper.export.graph import NO_ROUNDING, Rounding, Signed
from edgekeeper.export.int8 import (
    Keep,
    Loss,
    Method,
    calibrate,
    calibration_images,
    layers,
    measure_loss,
)
from edgekeeper.export.writers import check_layers_known, folded, onnx_model
from edgekeeper.files import sha256_of
from edgekeeper.models import SRModel
from edgekeeper.pretrained.exported import (
    KEY,
    RUNTIMES,
    SUFFIXES,
    ExportedNetwork,
    Precision,
    Runtime,
    load_exported,
    needed,
)
from edgekeeper.pretrained.zoo import find, load

__all__ = [
    "Agreement",
    "Exported",
    "Keep",
    "Loss",
    "Method",
    "export_network",
    "with_runtime",
]

FORMAT = 1
"""Goes up when files of the same network change; the cache then makes them anew."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written: where, how near it is to the torch network, what int8 costs."""

    path: Path
    agreement: Agreement
    loss: Loss | None


def export_network(
    model: str | Path | SRModel,
    target: str | Path,
    *,
    runtime: Runtime | Literal["by name"] = "by name",
    calibration: str | Path | None = None,
    method: Method = "minmax",
    keep: Keep = "ends",
    allowed_loss_db: float = 0.2,
    overwrite: Literal["refuse", "replace"] = "refuse",
) -> Exported:
    """Return the file ``target`` (``.onnx``, or ``.xml`` with a ``.bin`` beside it), checked.

    Sizes stay open. The file is run at three sizes and compared with the torch network, pixels and
    gradients, before it gets its name. With a folder of ``calibration`` images the network
    computes in eight bits; what that costs on those images is measured and stored in the file.
    ``method`` and ``keep`` are those of ``int8.calibrate``.
    ``runtime`` says which format the file extension has to be of.

    Raises:
        InputError: no such network, another file extension, a file that exists, int8 for a network
            whose layers are not known.
        CheckpointError: the file's images differ, or int8 loses more than ``allowed_loss_db``.
        UnavailableError: onnx or the runtime is not installed.
    """
    target = Path(target)
    if target.suffix not in SUFFIXES:
        raise InputError(f"'{target}' must end in {' or '.join(SUFFIXES)} to say the format.")
    if runtime not in ("by name", SUFFIXES[target.suffix]):
        raise InputError(
            f"A file for {runtime} does not end in {target.suffix}; rename '{target}'."
        )
    if target.exists() and overwrite == "refuse":
        raise InputError(f"'{target}' exists; choose another name or replace it (--force).")
    runtime = SUFFIXES[target.suffix]
    needed("onnx", extra=runtime)
    needed(RUNTIMES[runtime], extra=runtime)
    network, facts = _network_and_facts(model)
    plain = folded(network)
    facts = {**facts, "precision": "float32"}
    _make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        draft = Path(folder) / target.name
        _write(draft, plain, facts=facts, rounding=NO_ROUNDING)
        agreement = check(load_exported(draft), network)
        loss = None
        if calibration is not None:
            check_layers_known(network)
            images = calibration_images(Path(calibration), scale=network.scale)
            rounding = calibrate(
                plain,
                images,
                method=method,
                keep=keep,
                signed=_SIGNED[runtime],
                outputs=_OUTPUTS[runtime],
            )
            _write(draft, plain, facts=facts, rounding=rounding)
            loss = measure_loss(load_exported(draft), network, images=images)
            _refuse(loss, allowed=allowed_loss_db)
            facts |= {"precision": "int8", "int8": _int8_facts(rounding, plain, loss, method)}
            _write(draft, plain, facts=facts, rounding=rounding)
            agreement = check(load_exported(draft), network, kind="int8")
        _move(draft, target)
    return Exported(path=target, agreement=agreement, loss=loss)


# ONNX Runtime is fast where both ends of a layer are uint8 with an offset, OpenVINO where values
# of both signs are int8 around 0 and sums stay as they come (docs/export.md).
_SIGNED: dict[Runtime, Signed] = {"onnx": "uint8", "openvino": "int8"}
_OUTPUTS: dict[Runtime, Literal["float", "rounded"]] = {"onnx": "rounded", "openvino": "float"}


def with_runtime(
    model: str | Path | SRModel,
    *,
    runtime: Runtime,
    precision: Precision = "float32",
    threads: int | None = None,
) -> ExportedNetwork:
    """Return the network run by ONNX Runtime or OpenVINO, exported to the cache unless it is there.

    The cache is ``edgekeeper/exports`` in ``XDG_CACHE_HOME`` (by default ``~/.cache``); files
    there are found by the digest of the network's file, or of its weights and graph.
    ``precision="bfloat16"`` is OpenVINO's. For 8 bits export a file and load that.

    Raises:
        InputError: no such network, runtime or precision; UnavailableError: not installed;
        CheckpointError: the exported network differs.
    """
    if runtime not in RUNTIMES:
        raise unknown_name("runtime", runtime, known=RUNTIMES)
    if runtime == "onnx" and precision != "float32":
        raise InputError(f"ONNX Runtime has no {precision} here; use runtime 'openvino' for it.")
    needed("onnx", extra=runtime)
    if isinstance(model, SRModel):
        digest = hashlib.sha256(onnx_model(model, facts={}).SerializeToString()).hexdigest()
    else:
        digest = sha256_of(find(model))
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == runtime)
    target = _cache() / f"{digest[:32]}-{FORMAT}{suffix}"
    if not target.is_file():
        export_network(model, target, overwrite="replace")
    return load_exported(target, threads=threads, precision=precision)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "edgekeeper" / "exports"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: {error.strerror}.") from error


def _network_and_facts(model: str | Path | SRModel) -> tuple[SRModel, dict[str, object]]:
    """Return the network on the CPU, and what its file will say of it."""
    card: object = {}
    source: dict[str, object] = {}
    if isinstance(model, SRModel):
        network = copy.deepcopy(model).cpu().float().eval()
        description: object = {"name": type(model).__name__}
    else:
        path = find(model)
        network = load(model).eval()
        file = read_tensors(path).facts if path.suffix == ".safetensors" else {}
        description = file.get("model", {"name": type(network).__name__})
        card = file.get("card", {})
        source = {"name": path.stem, "sha256": sha256_of(path)}
    return network, {
        "format": FORMAT,
        "scale": network.scale,
        "channels": network.channels,
        "value_range": [0, 1],
        "receptive_field": network.receptive_field,
        "overlap": network.overlap,
        "multiple": getattr(network, "multiple", 1),
        "border": network.border,
        "model": description,
        "source": source,
        "card": card,
        "exported_by": code_version(),
    }


def _int8_facts(
    rounding: Rounding, network: SRModel, loss: Loss, method: Method
) -> dict[str, object]:
    """Return what an 8-bit file says of itself."""
    kept = [name for name in layers(network) if name not in rounding.inputs]
    return {"range": method, "float_layers": kept, **loss.to_json()}


def _refuse(loss: Loss, *, allowed: float) -> None:
    if not loss.db <= allowed:  # not a number is refused too
        raise CheckpointError(
            f"In eight bits the network loses {loss.db:.3f} dB on the calibration images; "
            f"{allowed:g} dB are allowed. No file was left: calibrate with more varied images, "
            "or export without --int8."
        )


# ---- files -------------------------------------------------------------------------------------


def _write(
    draft: Path, network: SRModel, *, facts: Mapping[str, object], rounding: Rounding
) -> None:
    """Write the network to ``draft`` in the format of its file extension."""
    # Each short fact stands by itself as well, for other programs.
    short = ("scale", "channels", "value_range", "receptive_field", "overlap", "precision")
    entries = {KEY: json.dumps(facts)} | {f"{KEY}.{key}": str(facts[key]) for key in short}
    model = onnx_model(network, facts=entries, rounding=rounding)
    try:
        if draft.suffix == ".onnx":
            draft.write_bytes(model.SerializeToString())
        else:
            _write_openvino(draft, model, facts=facts, short=short)
    except OSError as error:
        raise CheckpointError(
            f"'{draft.name}' cannot be written: {error.strerror or error}. Free some space or "
            "choose another folder."
        ) from error


def _write_openvino(
    draft: Path, model: Any, *, facts: Mapping[str, object], short: Sequence[str]
) -> None:
    """Write the ONNX model as ``.xml`` and ``.bin``."""
    import openvino

    network = openvino.Core().read_model(io.BytesIO(model.SerializeToString()))
    network.set_rt_info(json.dumps(facts), [KEY, "facts"])
    for key in short:
        network.set_rt_info(str(facts[key]), [KEY, key])
    openvino.save_model(network, str(draft), compress_to_fp16=False)


def _move(draft: Path, target: Path) -> None:
    """Give the finished file its name; OpenVINO's weights go first, since the .xml needs them."""
    pairs = [(draft, target)]
    if draft.suffix == ".xml":
        pairs.insert(0, (draft.with_suffix(".bin"), target.with_suffix(".bin")))
    try:
        for source, place in pairs:
            source.replace(place)
    except OSError as error:
        raise CheckpointError(f"'{target}' cannot be written: {error.strerror}.") from error
