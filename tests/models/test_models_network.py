"""Network: check of the input, segments, chain of parts, freezing and optimiser groups."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models import network as network_file
from dualstream.models.accepts import Accepts
from dualstream.models.layers.pooling import global_mean, stack_time, window_mean
from dualstream.models.network import Network, fold_segments
from dualstream.models.trainable import parameter_groups, set_trainable


class Small(Network):
    """Three batch norms between convolutions, and a classifier."""

    def __init__(self, frozen_batch_norm="none"):
        super().__init__(
            num_classes=4, inputs=Accepts(2, length=3), frozen_batch_norm=frozen_batch_norm
        )
        self.trunk = nn.Sequential(
            nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5),
            nn.BatchNorm2d(5),
        )  # fmt: skip
        self.add_classifier(5, dropout=0.0)

    def encode(self, clips):
        return self.trunk(stack_time(clips)).mean(dim=(2, 3))


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_time_folds_into_channels_as_x1_y1_x2_y2():
    flow = torch.tensor([[10.0, 20.0, 30.0], [11.0, 21.0, 31.0]])  # (C, T): x of t = 0, 1, 2; y
    stacked = stack_time(flow[None, :, :, None, None])
    assert stacked.flatten().tolist() == [10, 11, 20, 21, 30, 31]
    assert stacked.shape == (1, 6, 1, 1)


@given(n=st.integers(1, 3), s=st.integers(1, 4), c=st.integers(1, 3), t=st.integers(1, 4))
def test_segments_of_a_sample_are_next_to_each_other(n, s, c, t):
    clips = torch.arange(n * s * c * t, dtype=torch.float32).reshape(n, s, c, t, 1, 1)
    folded = fold_segments(clips)
    assert folded.shape == (n * s, c, t, 1, 1)
    assert torch.equal(folded.reshape(n, s, c, t, 1, 1), clips)
    assert fold_segments(folded) is folded


@pytest.mark.parametrize(
    ("clips", "found"),
    [
        (torch.zeros(1, 3, 3, 8, 8), r"C = 2 and T = 3, got \(1, 3, 3, 8, 8\)"),
        (torch.zeros(1, 2, 4, 8, 8), r"got \(1, 2, 4, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.zeros(0, 2, 3, 8, 8), r"got \(0, 2, 3, 8, 8\)"),
        (torch.zeros(2, 0, 2, 3, 8, 8), r"got \(2, 0, 2, 3, 8, 8\)"),
        (torch.zeros(1, 2, 3, 8, 0), r"got \(1, 2, 3, 8, 0\)"),
    ],
)
def test_input_of_another_form_is_refused(clips, found):
    with pytest.raises(ShapeError, match=found):
        Small()(clips)


@pytest.mark.parametrize(
    ("accepts", "wanted", "nearest"),
    [
        (Accepts(3), (16, 112, 112), (16, 112, 112)),
        (Accepts(3, smallest=(5, 17, 17)), (1, 20, 1), (5, 20, 17)),
        (Accepts(3, length=4, smallest=(1, 9, 9)), (16, 8, 8), (4, 9, 9)),
        (Accepts(3, length=20, side=32), (16, 112, 8), (20, 32, 32)),
    ],
)
def test_the_nearest_clip_that_is_taken(accepts, wanted, nearest):
    assert accepts.nearest(wanted) == nearest
    accepts.check((1, 3, *nearest), name="it")


def test_a_fixed_side_is_demanded():
    accepts = Accepts(3, side=33)
    for size in ((33, 32), (34, 33)):
        with pytest.raises(ShapeError, match=f"it was made for images of 33 x 33, got {size[0]}"):
            accepts.check((1, 3, 2, *size), name="it")


@pytest.mark.parametrize(
    ("option", "accepts"),
    [
        ("in_channels", {"channels": 0}),
        ("length", {"channels": 2, "length": 0}),
        ("image_size", {"channels": 2, "side": 0}),
    ],
)
def test_numbers_below_one_are_refused(option, accepts):
    with pytest.raises(InputError, match=f"{option} must be at least 1, got 0"):
        Accepts(**accepts)
    with pytest.raises(InputError, match="num_classes must be at least 1, got 0"):
        Network(num_classes=0, inputs=Accepts(2))


class TwoStream(Network):
    """Means of frames and of flow, side by side."""

    def __init__(self):
        inputs = {"rgb": Accepts(3, length=1), "flow": Accepts(2, smallest=(2, 1, 1))}
        super().__init__(num_classes=4, inputs=inputs)
        self.add_classifier(5, dropout=0.0)

    def encode(self, clips):
        return torch.cat([global_mean(clips["rgb"]), global_mean(clips["flow"])], dim=1)


def test_a_network_of_two_streams_takes_a_mapping_of_both():
    model = TwoStream().eval()
    rgb, flow = torch.randn(2, 3, 3, 1, 8, 8), torch.randn(2, 3, 2, 5, 4, 4)
    logits = model({"flow": flow, "rgb": rgb})
    means = torch.cat([rgb.mean(dim=(3, 4, 5)), flow.mean(dim=(3, 4, 5))], dim=2)  # (N, S, 5)
    torch.testing.assert_close(logits, model.classifier(means).mean(dim=1))
    for wrong in (rgb, {"rgb": rgb}, {"rgb": rgb, "depth": flow}):
        with pytest.raises(InputError, match="takes a mapping of rgb, flow, got"):
            model(wrong)
    with pytest.raises(ShapeError, match=r"TwoStream \(flow\) must be .* C = 2"):
        model({"rgb": rgb, "flow": rgb})
    with pytest.raises(ShapeError, match=r"same N and S, got rgb \(2, 3, .*flow \(2, 1, "):
        model.check({"rgb": rgb.shape, "flow": (2, 1, 2, 5, 4, 4)})


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
        super().__init__(num_classes=4, inputs=Accepts(2), frozen_batch_norm=frozen_batch_norm)
        self.stem = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))
        self.res2 = nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
        self.res3 = nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
        self.add_classifier(3, dropout=0.0)

    def stages(self):
        return self.stem, self.res2, self.res3

    def parts(self):
        return self.stages()


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


def test_parts_with_a_learning_rate_of_their_own():
    model = Small()
    groups = parameter_groups(model, weight_decay=0.1, lr=0.01, lr_factors={"classifier": 10.0})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups
             for p in group["params"]}  # fmt: skip
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["classifier.weight"] == (0.1, 0.1)
    assert found["classifier.bias"] == (0.1, 0.0)
    assert found["trunk.0.weight"] == (0.01, 0.1)
    assert found["trunk.1.bias"] == (0.01, 0.0)


class Tiny(Network):
    """One convolution of 3x5x5 without padding."""

    def __init__(self, *, checkpointing=False, dropout=0.0, length=None):
        super().__init__(
            num_classes=4,
            inputs=Accepts(2, length, smallest=(3, 5, 5)),
            checkpointing=checkpointing,
        )
        self.body = nn.Sequential(nn.Conv3d(2, 6, (3, 5, 5)), nn.BatchNorm3d(6), nn.Dropout(0.5))
        self.add_classifier(6, dropout=dropout)

    def stages(self):
        return (self.body,)

    def encode(self, clips):
        return global_mean(self.run(self.body, clips))


def test_logits_of_clips_and_of_segments():
    model = Tiny().eval()
    clips = torch.randn(2, 3, 2, 4, 6, 7)  # (N, S, C, T, H, W)
    by_segment = model(clips.flatten(0, 1))
    assert by_segment.shape == (6, 4)
    torch.testing.assert_close(model(clips), by_segment.unflatten(0, (2, 3)).mean(dim=1))
    assert model.num_features == 6
    assert model.embed(clips[:, 0]).shape == (2, 6)


def test_the_smallest_clip_and_one_less():
    model = Tiny()
    model.name = "tiny"
    assert model(torch.randn(2, 2, 3, 5, 5)).shape == (2, 4)
    for size in ((2, 5, 5), (3, 4, 5), (3, 5, 4)):
        got = " x ".join(map(str, size))
        with pytest.raises(
            ShapeError, match=rf"tiny needs clips of at least 3 x 5 x 5 \(.*\), got {got}\."
        ):
            model(torch.randn(2, 2, *size))


def test_a_fixed_length_is_demanded():
    model = Tiny(length=4)
    assert model(torch.randn(1, 2, 4, 5, 6)).shape == (1, 4)
    with pytest.raises(ShapeError, match="T = 4"):
        model(torch.randn(1, 2, 5, 5, 6))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_dropout_out_of_range_is_refused(dropout):
    with pytest.raises(InputError, match="dropout must lie in 0 <= dropout < 1"):
        Tiny(dropout=dropout)


def test_checkpointing_is_for_training_only(monkeypatch):
    calls = []

    def counted(block, x):
        calls.append(block)
        return block(x)

    monkeypatch.setattr(network_file, "checkpointed", counted)
    clips = torch.randn(2, 2, 3, 5, 6)
    model = Tiny(checkpointing=True)
    model.eval()(clips)
    with torch.no_grad():
        model.train()(clips)
    Tiny()(clips)
    assert calls == []
    model(clips)
    assert calls == list(model.body)  # block by block


class Chain(Network):
    """Two stages and a pool between them."""

    def __init__(self):
        super().__init__(num_classes=4, inputs=Accepts(2, smallest=(1, 2, 2)))
        self.first = nn.Sequential(nn.Conv3d(2, 3, 1), nn.ReLU())
        self.halve = nn.MaxPool3d(2)
        self.second = nn.Conv3d(3, 6, 1)
        self.add_classifier(6, dropout=0.0)

    def stages(self):
        return self.first, self.second

    def parts(self):
        return self.first, self.halve, self.second


def test_a_chain_passes_its_parts_and_the_mean():
    model, clips = Chain(), torch.randn(2, 2, 4, 6, 8)
    features = model.second(model.halve(model.first(clips)))
    torch.testing.assert_close(model.embed(clips), features.mean(dim=(2, 3, 4)))
    torch.testing.assert_close(model(clips), model.classifier(model.embed(clips)))


@pytest.mark.parametrize(
    ("parts", "shape"),
    [(0, (2, 2, 4, 6, 8)), (1, (2, 3, 4, 6, 8)), (2, (2, 3, 2, 3, 4)), (3, (2, 6))],
)
def test_a_chain_can_be_cut_anywhere(parts, shape):
    model, clips = Chain(), torch.randn(2, 2, 4, 6, 8)
    features = model.begin(clips, parts=parts)
    assert features.shape == shape
    torch.testing.assert_close(model.finish(features, parts=parts), model(clips))


@pytest.mark.parametrize(("trainable", "frozen"), [("all", 0), (2, 0), (1, 2), ("last_layer", 3)])
def test_frozen_parts_are_those_before_the_first_trained_one(trainable, frozen):
    model = Chain()
    set_trainable(model, trainable)
    assert model.num_frozen_parts() == frozen


def test_clips_that_are_too_small_do_not_begin():
    with pytest.raises(ShapeError, match="at least 1 x 2 x 2"):
        Chain().begin(torch.zeros(1, 2, 1, 1, 2), parts=1)


def test_checkpointing_changes_nothing_with_the_same_seed():
    plain, saving = Tiny(dropout=0.5), Tiny(dropout=0.5, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    clips = torch.randn(4, 2, 4, 6, 6)
    logits = []
    for model in (plain, saving):
        torch.manual_seed(3)
        logits.append(model(clips))
        logits[-1].square().sum().backward()
    assert torch.equal(*logits)
    for before, after in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(before.grad, after.grad)
    for before, after in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(before, after)


def test_global_mean():
    features = torch.arange(24.0).reshape(1, 2, 1, 3, 4)
    assert global_mean(features).tolist() == [[5.5, 17.5]]


# Each value's share of the mean over all windows, counted by hand: of 5 values and windows of 3
# they lie in 1, 2, 3, 2 and 1 of the 3 windows.
@pytest.mark.parametrize(
    ("length", "window", "shares"),
    [
        (5, 3, [1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9]),
        (4, 2, [1 / 6, 2 / 6, 2 / 6, 1 / 6]),
        (3, 3, [1 / 3, 1 / 3, 1 / 3]),
        (3, 7, [1 / 3, 1 / 3, 1 / 3]),
        (3, 1, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_window_mean(length, window, shares, axis):
    values = torch.eye(length)  # value i is 1 in channel i only
    shape = [1, length, 1, 1, 1]
    shape[axis] = length
    windows = [1, 1, 1]
    windows[axis - 2] = window
    found = window_mean(values.reshape(shape), tuple(windows))
    torch.testing.assert_close(found, torch.tensor([shares]))


def test_window_mean_is_the_product_over_axes():
    features = torch.randn(2, 3, 5, 4, 3)
    time = torch.tensor([1, 2, 3, 2, 1.0]) / 9
    height = torch.tensor([1, 2, 2, 1.0]) / 6
    expected = torch.einsum("ncthw,t,h->nc", features, time, height) / 3
    torch.testing.assert_close(window_mean(features, (3, 2, 7)), expected)


@pytest.mark.parametrize(
    ("name", "size"),
    [("s3d", (5, 17, 17)), ("r3d_18", (8, 16, 16)), ("x3d_xs", (1, 16, 16)), ("tsn", (1, 32, 32))],
)
def test_one_value_a_channel_is_too_little_to_train_with(name, size):
    model = create_model(name, num_classes=2)
    with pytest.raises(ShapeError, match="larger batch"):
        model(torch.randn(1, 3, *size))
