"""What all networks over clips share: sizes, segments, head, checkpointing."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError
from dualstream.models import MODELS, create_model, set_trainable, video_network
from dualstream.models.video_network import VideoNetwork, global_mean, window_mean


class Tiny(VideoNetwork):
    """One convolution of 3x5x5 without padding."""

    def __init__(self, *, checkpointing=False, dropout=0.0, length=None):
        super().__init__(
            num_classes=4,
            in_channels=2,
            smallest=(3, 5, 5),
            checkpointing=checkpointing,
            length=length,
        )
        self.body = nn.Sequential(nn.Conv3d(2, 6, (3, 5, 5)), nn.BatchNorm3d(6), nn.Dropout(0.5))
        self.add_classifier(6, dropout=dropout)

    def stages(self):
        return (self.body,)

    def embed(self, clips):
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


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 5, 5), "C = 2"),
        ((2, 3, 5, 5), "C = 2"),
        ((0, 2, 3, 5, 5), "C = 2"),
        ((1, 2, 0, 5, 5), "C = 2"),
    ],
)
def test_other_forms_are_refused(shape, message):
    with pytest.raises(ShapeError, match=message):
        Tiny()(torch.zeros(shape))


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

    monkeypatch.setattr(video_network, "checkpointed", counted)
    clips = torch.randn(2, 2, 3, 5, 6)
    model = Tiny(checkpointing=True)
    model.eval()(clips)
    with torch.no_grad():
        model.train()(clips)
    Tiny()(clips)
    assert calls == []
    model(clips)
    assert calls == list(model.body)  # block by block


class Chain(VideoNetwork):
    """Two stages and a pool between them."""

    def __init__(self):
        super().__init__(num_classes=4, in_channels=2, smallest=(1, 2, 2))
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


def test_a_network_that_is_no_chain_is_not_run_in_pieces():
    with torch.device("meta"):
        model = create_model("slowfast_r50_8x8", num_classes=2)
        with pytest.raises(InputError, match="no chain of parts"):
            model.begin(torch.zeros(1, 3, 32, 32, 32), parts=0)


FAMILY = sorted(set(MODELS) - {"tsn", "cnn_m_2048"})


@pytest.mark.parametrize("name", FAMILY)
def test_every_video_network_takes_channels_and_checkpointing(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=2, in_channels=2, checkpointing=True)
    assert model.in_channels == 2
    assert model.checkpointing
