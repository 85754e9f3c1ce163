"""Input check, freezing and optimiser groups that all networks share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.network import (
    Network,
    join_segments,
    parameter_groups,
    set_trainable,
    split_segments,
    stack_time,
)


class Small(Network):
    """Three batch norms between convolutions, and a classifier."""

    def __init__(self, frozen_batch_norm="none"):
        super().__init__(
            num_classes=4, in_channels=2, length=3, frozen_batch_norm=frozen_batch_norm
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5),
            nn.BatchNorm2d(5),
        )  # fmt: skip
        self.classifier = nn.Linear(5, 4)
        self.apply_freezing()

    def forward(self, clips):
        clips, segments = split_segments(clips, in_channels=2, length=3)
        features = self.trunk(stack_time(clips)).mean(dim=(2, 3))
        return join_segments(self.classifier(features), segments=segments).mean(dim=1)


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_time_folds_into_channels_as_x1_y1_x2_y2():
    flow = torch.tensor([[10.0, 20.0, 30.0], [11.0, 21.0, 31.0]])  # (C, T): x of t = 0, 1, 2; y
    stacked = stack_time(flow[None, :, :, None, None])
    assert stacked.flatten().tolist() == [10, 11, 20, 21, 30, 31]
    assert stacked.shape == (1, 6, 1, 1)


@given(n=st.integers(1, 3), s=st.integers(1, 4), c=st.integers(1, 3), t=st.integers(1, 4))
def test_segments_split_and_join_are_inverse(n, s, c, t):
    clips = torch.arange(n * s * c * t, dtype=torch.float32).reshape(n, s, c, t, 1, 1)
    split, segments = split_segments(clips, in_channels=c, length=t)
    assert split.shape == (n * s, c, t, 1, 1)
    assert segments == s
    joined = join_segments(split.flatten(1), segments=segments)
    assert torch.equal(joined, clips.flatten(2))


def test_input_without_segments_has_one():
    clips = torch.zeros(2, 3, 1, 4, 4)
    split, segments = split_segments(clips, in_channels=3, length=1)
    assert split is clips
    assert segments == 1


@pytest.mark.parametrize(
    ("clips", "found"),
    [
        (torch.zeros(1, 3, 3, 8, 8), r"C = 2 and T = 3, got \(1, 3, 3, 8, 8\)"),
        (torch.zeros(1, 2, 4, 8, 8), r"got \(1, 2, 4, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.zeros(0, 2, 3, 8, 8), r"got \(0, 2, 3, 8, 8\)"),
        (torch.zeros(2, 0, 2, 3, 8, 8), r"got \(2, 0, 2, 3, 8, 8\)"),
    ],
)
def test_input_of_another_form_is_refused(clips, found):
    with pytest.raises(ShapeError, match=found):
        split_segments(clips, in_channels=2, length=3)


@pytest.mark.parametrize("which", ["num_classes", "in_channels", "length"])
def test_numbers_below_one_are_refused(which):
    numbers = {"num_classes": 4, "in_channels": 2, "length": 3, which: 0}
    with pytest.raises(InputError, match=f"{which} must be at least 1, got 0"):
        Network(**numbers)


@pytest.mark.parametrize(
    ("frozen", "training"),
    [
        ("none", [True, True, True]),
        ("partial", [True, False, False]),
        ("all", [False, False, False]),
    ],
)
def test_frozen_batch_norms_stay_frozen_through_train(frozen, training):
    model = Small(frozen)
    model.eval()
    model.train()
    assert model.training
    assert [norm.training for norm in norms(model)] == training
    assert [norm.weight.requires_grad for norm in norms(model)] == training
    assert all(p.requires_grad for p in model.trunk[0].parameters())
    before = [norm.running_mean.clone() for norm in norms(model)]
    model(torch.randn(3, 2, 3, 8, 8)).sum().backward()
    moved = [not torch.equal(a, b.running_mean) for a, b in zip(before, norms(model), strict=True)]
    assert moved == training


def test_eval_is_eval_whatever_is_frozen():
    model = Small("partial").eval()
    assert not any(module.training for module in model.modules())


def test_unknown_freezing_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'partial'"):
        Small("parital")


def test_last_layer_only_trains_the_classifier_and_moves_no_statistics():
    model = Small()
    set_trainable(model, "last_layer")
    model.train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model(torch.randn(3, 2, 3, 8, 8)).square().sum().backward()
    optimiser.step()
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_back_to_all_keeps_what_the_network_was_made_to_freeze():
    model = Small("partial")
    set_trainable(model, "last_layer")
    set_trainable(model, "all")
    assert [norm.training for norm in norms(model)] == [True, False, False]
    assert [norm.weight.requires_grad for norm in norms(model)] == [True, False, False]
    assert model.trunk[0].weight.requires_grad
    with pytest.raises(UnknownNameError, match="trainable part"):
        set_trainable(model, "last")


class Staged(Network):
    """Three stages of a convolution and a batch norm, and a classifier."""

    def __init__(self, frozen_batch_norm="none"):
        super().__init__(
            num_classes=4, in_channels=2, length=None, frozen_batch_norm=frozen_batch_norm
        )
        self.stem = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))
        self.res2 = nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
        self.res3 = nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
        self.classifier = nn.Linear(3, 4)
        self.apply_freezing()

    def stages(self):
        return self.stem, self.res2, self.res3

    def forward(self, clips):
        x = clips
        for stage in self.stages():
            x = stage(x)
        return self.classifier(x.mean(dim=(2, 3, 4)))


def changed_by_a_step(model):
    """Parts of the network that one training step changes, statistics included."""
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model(torch.randn(3, 2, 2, 4, 4)).square().sum().backward()
    optimiser.step()
    return {
        name.rsplit(".", 1)[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize(
    ("which", "changed"),
    [
        ("last_layer", {"classifier"}),
        (1, {"classifier", "res3.0", "res3.1"}),
        (2, {"classifier", "res3.0", "res3.1", "res2.0", "res2.1"}),
        (3, {"classifier", "res3.0", "res3.1", "res2.0", "res2.1", "stem.0", "stem.1"}),
        ("all", {"classifier", "res3.0", "res3.1", "res2.0", "res2.1", "stem.0", "stem.1"}),
    ],
)
def test_a_number_trains_the_last_stages_and_leaves_the_rest(which, changed):
    torch.manual_seed(0)
    model = Staged()
    set_trainable(model, which)
    assert changed_by_a_step(model) == changed
    trained = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == changed


def test_a_number_of_stages_keeps_what_the_network_was_made_to_freeze():
    torch.manual_seed(0)
    model = Staged("all")
    set_trainable(model, 2)
    assert changed_by_a_step(model) == {"classifier", "res3.0", "res2.0"}
    model = Staged("partial")
    set_trainable(model, 1)
    assert changed_by_a_step(model) == {"classifier", "res3.0"}
    set_trainable(model, 3)
    assert changed_by_a_step(model) == {"classifier", "res3.0", "res2.0", "stem.0", "stem.1"}


@pytest.mark.parametrize(
    ("which", "dropping"), [("all", True), (2, True), (1, False), ("last_layer", False)]
)
def test_frozen_stages_drop_nothing(which, dropping):
    model = create_model("c3d", num_classes=2, length=16, image_size=16)
    set_trainable(model, which)
    model.train()
    assert model.full_6[-1].training == dropping
    assert model.dropout.training
    assert not model.eval().dropout.training


def test_stages_can_be_thawed_and_frozen_again():
    torch.manual_seed(0)
    model = Staged()
    for which in (1, 3, 2, "last_layer", 1):
        set_trainable(model, which)
    assert changed_by_a_step(model) == {"classifier", "res3.0", "res3.1"}


@pytest.mark.parametrize("which", [0, -1, 4])
def test_stages_that_a_network_lacks_are_refused(which):
    with pytest.raises(InputError, match=rf"Staged has 3 stages .* got {which}\."):
        set_trainable(Staged(), which)
    with pytest.raises(InputError, match=r"Small has 0 stages"):
        set_trainable(Small(), 1)


def test_weights_decay_but_not_biases_and_norms():
    model = Small("partial")
    decayed, plain = parameter_groups(model, weight_decay=5e-4)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == [
        "trunk.0.weight", "trunk.2.weight", "classifier.weight",
    ]  # fmt: skip
    assert [names[id(p)] for p in plain["params"]] == [
        "trunk.0.bias", "trunk.1.weight", "trunk.1.bias", "trunk.2.bias", "classifier.bias",
    ]  # fmt: skip
    assert (decayed["weight_decay"], plain["weight_decay"]) == (5e-4, 0.0)
    torch.optim.SGD([decayed, plain], lr=0.1)


def test_empty_groups_are_left_out_and_negative_decay_refused():
    assert len(parameter_groups(nn.Linear(3, 2, bias=False), weight_decay=0.1)) == 1
    with pytest.raises(InputError, match="weight_decay"):
        parameter_groups(Small(), weight_decay=-1.0)
