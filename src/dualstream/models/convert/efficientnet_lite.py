"""Names of `efficientnet_lite_pytorch`."""

from __future__ import annotations

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import Their, plain_keys
from dualstream.models.network import Network
from dualstream.models.zoo.tsn import TSN

_OUTSIDE_BLOCKS = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
}
_FIRST_BLOCK = {  # no expansion
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
_OTHER_BLOCKS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def names(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for `tsn` over timm's network; theirs numbers all blocks through.

    'backbone.blocks.2.0.conv_pw.weight' -> '_blocks.3._expand_conv.weight'

    Raises:
        WeightsError: not a `tsn` over an EfficientNet-Lite.
    """
    made = getattr(getattr(model, "backbone", None), "pretrained_cfg", {}).get("architecture", "")
    if not isinstance(model, TSN) or not made.startswith("tf_efficientnet_lite"):
        raise WeightsError(
            f"efficientnet_lite_pytorch has no layout for this {model.name}, only for tsn with a "
            "backbone tf_efficientnet_lite."
        )
    table: dict[str, Their] = {}
    blocks: list[tuple[str, str]] = []
    for key in plain_keys(model):
        match key.split("."):
            case ["backbone", "blocks", stage, index, layer, tensor]:
                if (stage, index) not in blocks:
                    blocks.append((stage, index))
                layers = _OTHER_BLOCKS if len(blocks) > 1 else _FIRST_BLOCK
                table[key] = Their(f"_blocks.{len(blocks) - 1}.{layers[layer]}.{tensor}")
            case ["backbone", layer, tensor]:
                table[key] = Their(f"{_OUTSIDE_BLOCKS[layer]}.{tensor}")
            case ["classifier", tensor]:
                table[key] = Their(f"_fc.{tensor}")
    return table
