"""IMDN under the names of its authors' code: fea_conv, IMDB1.c1, ..., LR_conv, upsampler.0."""

from edgekeeper.models import IMDN
from edgekeeper.pretrained.layers import Format, Plan, Published
from edgekeeper.spec import spec

LAYERS = {
    "head": "fea_conv",
    "blocks.{i}.convs.{k}": "IMDB{i+1}.c{k+1}",
    "blocks.{i}.join": "IMDB{i+1}.c5",
    "blocks.{i}.attention.squeeze": "IMDB{i+1}.cca.conv_du.0",
    "blocks.{i}.attention.excite": "IMDB{i+1}.cca.conv_du.2",
    "join": "c.0",
    "after_blocks": "LR_conv",
    "last": "upsampler.0",
}


def read(file: Published) -> Plan:
    """Return the plan of an IMDN."""
    width, _ = file.channels("fea_conv")
    colours, _ = file.channels("upsampler.0")  # 3 · scale²
    blocks = max(1, file.count("IMDB{i}.") - 1)  # they count from 1
    scale = file.scale((colours / 3) ** 0.5)
    return Plan(spec(IMDN, scale=scale, width=width, blocks=blocks), LAYERS)


FORMAT = Format("IMDN", (r"IMDB1\.",), read)
