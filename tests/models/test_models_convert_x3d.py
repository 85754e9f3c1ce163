"""X3D beside pytorchvideo's with the same weights, in both directions."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dualstream.models.convert import from_layout, to_layout
from dualstream.models.convert.layouts import pytorchvideo as names
from dualstream.models.zoo.x3d import X3D, x3d, x3d_l, x3d_m, x3d_s, x3d_xl, x3d_xs

with warnings.catch_warnings():  # their import compiles a function in a way torch warns about
    warnings.simplefilter("ignore")
    from pytorchvideo.models import hub
    from pytorchvideo.models.x3d import create_x3d

NUM_CLASSES = 11


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Weights, norms and their statistics such that nothing is one, zero or alike."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            # Variances near eps, so that another eps would show.
            nn.init.uniform_(module.running_var, 1e-4, 2.0, generator=generator)
            nn.init.normal_(module.running_mean, std=0.2, generator=generator)
            nn.init.uniform_(module.weight, 0.3, 0.7, generator=generator)
            nn.init.normal_(module.bias, std=0.2, generator=generator)
        elif isinstance(module, nn.Conv3d | nn.Linear):
            bound = (3 / module.weight[0].numel()) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.2, generator=generator)
    return model.eval()


def logits_of(reference: nn.Module) -> nn.Module:
    reference.blocks[5].activation = nn.Identity()
    return reference


def from_theirs(reference: nn.Module, model: X3D) -> X3D:
    model.load_state_dict(from_layout(reference.state_dict(), model, layout="pytorchvideo"))
    return model.eval()


def to_theirs(model: X3D, reference: nn.Module) -> nn.Module:
    reference.load_state_dict(to_layout(model, layout="pytorchvideo"))
    return reference.eval()


def assert_same(ours: nn.Module, theirs: nn.Module, size: tuple[int, int, int]) -> None:
    clips = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3)) - 0.5
    with torch.inference_mode():
        a, b = ours(clips), theirs(clips)
    assert b.std() > 0.05  # the logits differ enough for the comparison to mean something
    assert (a - b).abs().max() <= 1e-4 * b.abs().max()


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (x3d_xs, hub.x3d_xs, {}),
        (x3d_s, hub.x3d_s, {}),
        (x3d_m, hub.x3d_m, {}),
        (x3d_l, hub.x3d_l, {}),
        (
            x3d_xl,
            create_x3d,
            {
                "width_factor": 2.9,
                "depth_factor": 5.0,
                "input_clip_length": 16,
                "input_crop_size": 312,
            },
        ),
    ],
)
def test_the_reference_and_back(
    ours: Callable[..., X3D], theirs: Callable[..., nn.Module], options: dict[str, float]
) -> None:
    reference = logits_of(randomise(theirs(model_num_class=NUM_CLASSES, **options), seed=1))
    window = reference.blocks[5].pool.pool.kernel_size
    model = from_theirs(reference, ours(num_classes=NUM_CLASSES))
    assert model.embedding.window == window
    smaller = (min(window[0], 4), 2, 3)
    reference.blocks[5].pool.pool.kernel_size = model.embedding.window = smaller
    assert_same(model, reference, (smaller[0] + 1, 70, 98))  # 2 x 2 x 2 windows
    randomise(model, seed=2)
    fresh = logits_of(theirs(model_num_class=NUM_CLASSES, **options))
    fresh.blocks[5].pool.pool.kernel_size = smaller
    assert_same(model, to_theirs(model, fresh), (smaller[0], 33, 96))


@pytest.mark.parametrize("ours", [x3d_s, x3d_l, x3d_xl])
def test_every_tensor_has_its_place(ours: Callable[..., X3D]) -> None:
    with torch.device("meta"):
        model = ours(num_classes=NUM_CLASSES)
        factors = {"x3d_l": (2.0, 5.0), "x3d_xl": (2.9, 5.0)}.get(ours.__name__, (2.0, 2.2))
        reference = create_x3d(
            model_num_class=NUM_CLASSES, width_factor=factors[0], depth_factor=factors[1]
        )
    table = names(model)
    assert table.keys() == model.state_dict().keys()
    places = [their.name for their in table.values()]
    assert sorted(places) == sorted(reference.state_dict())


# Its own size, and the one that its published weights are tested with.
@pytest.mark.parametrize("side", [160, 182])
def test_the_reference_as_it_is(side: int) -> None:
    reference = logits_of(randomise(hub.x3d_xs(), seed=4))
    model = from_theirs(reference, x3d_xs(num_classes=400))
    assert_same(model, reference, (4, side, side))


def test_clips_smaller_than_the_window_have_one() -> None:
    torch.manual_seed(0)
    model = randomise(x3d_m(num_classes=3), seed=5)
    whole = x3d(num_classes=3, gamma_b=2.25, gamma_d=2.2).eval()
    whole.load_state_dict(model.state_dict())
    clips = torch.rand(1, 3, 4, 64, 96, generator=torch.Generator().manual_seed(3)) - 0.5
    with torch.inference_mode():
        torch.testing.assert_close(model(clips), whole(clips))
