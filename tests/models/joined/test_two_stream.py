"""Two-stream networks: their answers, costs, options, and what of them is trained."""

import pytest
import torch
from torch.nn import functional as F

from dualstream.errors import InputError, UnknownNameError
from dualstream.models import create_model, set_trainable
from dualstream.models.inspect import inspect_network

K = 4
TOWER = {"name": "tsn", "backbone": "test_resnet"}


def made(**options):
    usual = {"towers": {"rgb": TOWER, "flow": {"name": "lecture_3d_cnn"}}}
    torch.manual_seed(0)
    return create_model("two_stream", num_classes=K, **{**usual, **options})


def clips_of(model, samples=3, segments=()):
    torch.manual_seed(1)
    return {
        stream: torch.randn(samples, *segments, accepts.channels, *accepts.nearest((2, 16, 16)))
        for stream, accepts in model.inputs.items()
    }


def answers(model, clips):
    """Of each tower alone, (M, N, K)."""
    return torch.stack([tower(clips[stream]) for stream, tower in model.towers().items()])


def test_the_mean_of_logits():
    model = made().eval()
    clips = clips_of(model)
    rgb, flow = answers(model, clips)
    outputs = model.outputs(clips)
    assert model.heads == ("fused", "rgb", "flow")
    torch.testing.assert_close(outputs["fused"], (rgb + flow) / 2)
    assert torch.equal(outputs["rgb"], rgb)
    assert torch.equal(outputs["flow"], flow)
    assert torch.equal(model(clips), outputs["fused"])
    weighted = made(stream_weights={"rgb": 1, "flow": 3.0}).eval()
    torch.testing.assert_close(weighted(clips), (rgb + 3 * flow) / 4)


def test_the_mean_of_probabilities():
    model = made(average="probabilities", stream_weights={"rgb": 2, "flow": 1}).eval()
    clips = clips_of(model)
    rgb, flow = answers(model, clips).softmax(dim=2)
    logits = model(clips)
    torch.testing.assert_close(logits.exp(), (2 * rgb + flow) / 3)
    torch.testing.assert_close(logits.softmax(dim=1), logits.exp())


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_classes_of_a_data_set_are_judged_among_themselves(average):
    """Of classes in two groups, those of either as if the network had no others."""
    model = made(average=average, stream_weights={"rgb": 1, "flow": 2}).eval()
    model.class_groups = (1, 3)
    clips = clips_of(model)
    own = create_model(
        "two_stream",
        num_classes=3,
        towers={"rgb": TOWER, "flow": {"name": "lecture_3d_cnn"}},
        average=average,
        stream_weights={"rgb": 1, "flow": 2},
    ).eval()
    state = model.state_dict()
    rows = {n: v[1:] for n, v in state.items() if v.shape != own.state_dict()[n].shape}
    assert len(rows) == 4  # weights and biases of two towers
    own.load_state_dict({**state, **rows})
    torch.testing.assert_close(model(clips)[:, 1:].softmax(1), own(clips).softmax(1))


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_a_sample_without_a_stream_is_judged_by_the_other(average):
    model = made(average=average, stream_weights={"rgb": 1, "flow": 2}).eval()
    clips = clips_of(model)
    absent = {"rgb": torch.tensor([True, False, False]), "flow": torch.tensor([False, False, True])}
    outputs = model.outputs(clips, absent=absent)
    for row, stream in ((0, "flow"), (2, "rgb")):
        fused, alone = outputs["fused"][row].softmax(0), outputs[stream][row].softmax(0)
        torch.testing.assert_close(fused, alone)
    torch.testing.assert_close(outputs["fused"][1], model(clips)[1])
    assert torch.equal(outputs["rgb"], model.outputs(clips)["rgb"])  # its own answer stays
    # The stream that is absent learns nothing from the fused loss of that sample.
    model.zero_grad()
    model.outputs(clips, absent=absent)["fused"][0].log_softmax(0)[0].backward()
    gradients = [p.grad for p in model.towers()["rgb"].parameters()]
    assert all(grad is None or not grad.any() for grad in gradients)
    assert all(p.grad is not None for p in model.towers()["flow"].parameters())


def test_losses_of_the_streams_alone_train_the_towers_apart():
    towers = {"rgb": {**TOWER, "dropout": 0.0}, "flow": "lecture_3d_cnn"}
    model = made(towers=towers)
    clips, labels = clips_of(model), torch.tensor([0, 2, 1])
    outputs = model.outputs(clips)
    (F.cross_entropy(outputs["rgb"], labels) + F.cross_entropy(outputs["flow"], labels)).backward()
    for stream, tower in made(towers=towers).towers().items():
        F.cross_entropy(tower(clips[stream]), labels).backward()
        joint = model.towers()[stream].named_parameters()
        for (name, found), expected in zip(joint, tower.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad, msg=name)


def test_it_costs_what_its_towers_cost():
    with torch.device("meta"):
        model = create_model("two_stream", num_classes=K, towers="r2plus1d_18")
    sizes = {"rgb": (3, 8, 56, 56), "flow": (2, 8, 56, 56)}
    table = inspect_network(model, input_size=sizes)
    towers = [inspect_network(t, input_size=sizes[s]) for s, t in model.towers().items()]
    assert table.multiply_adds == sum(tower.multiply_adds for tower in towers)
    assert table.parameters == sum(tower.parameters for tower in towers)


def test_three_streams():
    streams = {"rgb": 3, "flow": 2, "rgb_diff": 3}
    model = made(in_channels=streams, towers="lecture_3d_cnn").eval()
    assert model.heads == ("fused", *streams)
    clips = clips_of(model)
    torch.testing.assert_close(model(clips), answers(model, clips).mean(dim=0))


def test_lengths_and_sizes_go_to_the_towers_that_fix_them():
    towers = {"rgb": {"name": "cnn_m_2048", "dropout": 0.9}, "flow": "lecture_3d_cnn"}
    with torch.device("meta"):
        model = made(towers=towers, length={"rgb": 1, "flow": 10}, image_size=64)
    assert (model.inputs["rgb"].length, model.inputs["rgb"].side) == (1, 64)
    assert (model.inputs["flow"].length, model.inputs["flow"].side) == (None, None)
    assert model.towers()["rgb"].dropout.p == 0.9
    assert model.conv_dims == 3


def test_a_consensus_of_a_tower_joins_its_segments():
    consensus = {**TOWER, "consensus": "max"}
    model = made(towers={"rgb": consensus, "flow": "lecture_3d_cnn"}).eval()
    assert model.joins_segments
    clips = clips_of(model, segments=(2,))
    rgb = model.towers()["rgb"](clips["rgb"].flatten(0, 1)).reshape(3, 2, K).amax(dim=1)
    torch.testing.assert_close(model.outputs(clips)["rgb"], rgb)
    assert not made().joins_segments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_channels": {"rgb": 3}}, InputError, "must name two streams or more, got rgb"),
        ({"in_channels": {"fused": 3, "b": 2}}, InputError, "cannot be named 'fused'"),
        ({"in_channels": {"a.b": 3, "b": 2}}, InputError, "cannot be named 'a.b'"),
        ({"in_channels": {"pop": 3, "b": 2}}, InputError, "cannot be named 'pop'"),
        ({"towers": {"rgb": "i3d"}}, InputError, "given for rgb, the streams are rgb, flow"),
        ({"towers": "i4d"}, UnknownNameError, "Did you mean 'i3d'"),
        ({"towers": {"rgb": {}, "flow": "i3d"}}, InputError, "'rgb' needs the name of a network"),
        (
            {"towers": {"rgb": {**TOWER, "in_channels": 3}, "flow": "i3d"}},
            InputError,
            "'rgb' has in_channels of the whole network",
        ),
        (
            {"towers": {"rgb": {**TOWER, "droput": 0.5}, "flow": "i3d"}},
            UnknownNameError,
            "Did you mean 'dropout'",
        ),
        ({"average": "mean"}, UnknownNameError, "logits"),
        ({"stream_weights": {"rgb": 1}}, InputError, "each of rgb, flow a number above 0"),
        (
            {"stream_weights": {"rgb": 1, "flow": 0}},
            InputError,
            "each of rgb, flow a number above 0",
        ),
    ],
)
def test_options_that_do_not_fit(options, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        made(**options)


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def of_tower(model, stream, modules):
    own = {id(p): name for name, p in model.named_parameters()}
    return {own[id(p)] for module in modules(model.towers()[stream]) for p in module.parameters()}


def test_stages_of_both_towers_are_counted_from_their_heads():
    with torch.device("meta"):
        model = made(towers={"rgb": TOWER, "flow": "i3d"})
    heads = {n for n in dict(model.named_parameters()) if ".classifier." in n}
    set_trainable(model, "last_layer")
    assert trained(model) == heads
    assert not any(stage.training for stage in model.towers()["rgb"].stages())
    for count in (1, 2, len(model.stages())):
        set_trainable(model, count)
        last = (of_tower(model, s, lambda t, n=count: t.stages()[-n:]) for s in ("rgb", "flow"))
        assert trained(model) == heads.union(*last)
    with pytest.raises(InputError, match=f"has {len(model.stages())} stages"):
        set_trainable(model, 99)
    set_trainable(model, "all")
    assert trained(model) == set(dict(model.named_parameters()))


def test_one_tower_can_be_frozen():
    model = made().train()
    set_trainable(model, {"rgb": "none", "flow": 1})
    model.train()
    rgb, flow = model.towers().values()
    assert not any(module.training for module in rgb.modules())
    assert flow.dropout.training
    heads = of_tower(model, "flow", lambda tower: (*tower.stages()[-1:], *tower.head()))
    assert trained(model) == heads
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(clips_of(model)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0 if parameter.grad is None else parameter.grad
    changed = {n.split(".")[1] for n, v in model.state_dict().items() if not v.equal(before[n])}
    assert changed == {"flow"}
    set_trainable(model, "all")
    assert trained(model) == set(dict(model.named_parameters()))
    assert rgb.dropout.training
    for which, message in (
        ({"rgb": "none", "flow": "none"}, "Nothing of two_stream is left to train"),
        ({"audio": "none"}, "Unknown tower of two_stream 'audio'. Allowed: rgb, flow"),
        ({"rgb": "head"}, "Unknown trainable part 'head'"),
        ({"rgb": 99}, "tsn has 6 stages to train"),
    ):
        with pytest.raises(InputError, match=message):
            set_trainable(model, which)
    with pytest.raises(UnknownNameError, match="trainable part 'none'"):
        set_trainable(model, "none")
    with pytest.raises(UnknownNameError, match="tsn has no towers"):
        set_trainable(rgb, {"rgb": 1})


def test_a_frozen_batch_norm_of_a_tower_stays_frozen():
    model = made(towers={"rgb": {**TOWER, "frozen_batch_norm": "all"}, "flow": "lecture_3d_cnn"})
    norms = [m for m in model.towers()["rgb"].modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
