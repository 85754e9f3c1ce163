"""Networks in their fastest form: same logits, forms that fail are left out."""

import copy
import logging
import os

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models import create_model
from dualstream.models import fastest as forms_of
from dualstream.models.fastest import (
    FastestForm,
    channels_last,
    fastest,
    fold_batch_norms,
)
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.weights import cache_folder


def lively(model):
    """The network with batch norms that do something, in evaluation mode."""
    torch.manual_seed(4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


class Small(nn.Module):
    """Two units and a mean."""

    def __init__(self):
        super().__init__()
        self.first = ConvUnit(3, 8, (3, 3, 3))
        self.second = ConvUnit(8, 4, (1, 1, 1), activation=None, eps=1e-3)

    def forward(self, x):
        return self.second(self.first(x)).mean(dim=(2, 3, 4))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return lively(Small())


@pytest.fixture
def clip():
    torch.manual_seed(1)
    return torch.randn(2, 3, 4, 10, 12)


@pytest.fixture
def no_compiler(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", fails)


def test_folding_is_scale_and_shift_of_the_convolution(small):
    unit = copy.deepcopy(small.second)
    fold_batch_norms(small)
    norm, folded = unit.norm, small.second.conv
    scale = norm.weight / (norm.running_var + 1e-3).sqrt()
    torch.testing.assert_close(folded.weight, unit.conv.weight * scale[:, None, None, None, None])
    torch.testing.assert_close(folded.bias, norm.bias - norm.running_mean * scale)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in small.modules())


def test_folding_keeps_the_output(small, clip):
    expected = small(clip)
    fold_batch_norms(small)
    torch.testing.assert_close(small(clip), expected)


def test_batch_norms_in_training_are_not_folded(small):
    with pytest.raises(InputError, match="call eval"):
        fold_batch_norms(small.train())


def test_channels_last_keeps_weights_and_output(small, clip):
    expected, weights = small(clip), copy.deepcopy(small.state_dict())
    channels_last(small)
    assert small.first.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(small.state_dict()[name], weights[name]) for name in weights)
    torch.testing.assert_close(small(clip), expected)


@pytest.mark.slow
def test_every_form_gives_the_same_and_the_fastest_serves(small, clip, monkeypatch):
    monkeypatch.setattr(forms_of, "_least_seconds", seconds_from(["compiled", "plain"]))
    found = FastestForm(small, name="small")
    torch.testing.assert_close(found(clip), small(clip), rtol=1e-4, atol=1e-5)
    [forms] = found.forms.values()
    assert forms[0].name == "compiled"
    assert {form.name for form in forms} == {"plain", "folded", "channels_last", "compiled"}
    assert all(form.difference < 1e-5 for form in forms)
    torch.testing.assert_close(found(clip + 1), small(clip + 1), rtol=1e-4, atol=1e-5)


def seconds_from(order):
    """Times as if the forms were as fast as they stand in `order`, the others slower."""

    def seconds(runs, x):
        ranks = {name: order.index(name) if name in order else 9 for name in runs}
        return {name: 1.0 + rank for name, rank in ranks.items()}

    return seconds


def test_without_a_compiler_the_rest_serves(small, clip, no_compiler, caplog):
    with caplog.at_level(logging.INFO, logger="dualstream"):
        found = FastestForm(small, name="small")
        torch.testing.assert_close(found(clip), small(clip))
    [forms] = found.forms.values()
    assert {form.name for form in forms} == {"plain", "folded", "channels_last"}
    assert "compiled cannot be used here: no compiler here" in caplog.text


def test_a_form_that_changes_the_output_is_dropped(small, clip, no_compiler, monkeypatch, caplog):
    def wrong(model):
        fold_batch_norms(model)
        model.second.conv.bias.data += 0.1

    monkeypatch.setattr(forms_of, "fold_batch_norms", wrong)
    found = FastestForm(small, name="small")
    assert torch.equal(found(clip), small(clip))
    [forms] = found.forms.values()
    assert [form.name for form in forms] == ["plain"]
    assert "form folded is off by" in caplog.text


def test_a_form_that_gives_nan_is_dropped(small, clip, no_compiler, monkeypatch):
    def wrong(model):
        model.second.conv.weight.data.fill_(float("nan"))

    monkeypatch.setattr(forms_of, "channels_last", wrong)
    found = FastestForm(small, name="small")
    assert found(clip).isfinite().all()
    [forms] = found.forms.values()
    assert {form.name for form in forms} == {"plain", "folded"}


def test_only_a_few_shapes_are_compiled_for(small, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda run, **options: run)
    found = FastestForm(small, name="small")
    for length in range(1, 8):
        found(torch.randn(1, 3, length, 5, 5))
    assert len(found.forms) == forms_of.MOST_SHAPES
    assert all("compiled" in {form.name for form in forms} for forms in found.forms.values())
    further = torch.randn(1, 3, 9, 5, 5)
    torch.testing.assert_close(found(further), small(further))


def test_shapes_share_the_copy_that_serves_them(small, no_compiler, monkeypatch):
    copies = []
    monkeypatch.setattr(forms_of, "_least_seconds", seconds_from(["folded", "plain"]))
    monkeypatch.setattr(
        forms_of, "fold_batch_norms", lambda model: (copies.append(model), fold_batch_norms(model))
    )
    found = FastestForm(small, name="small")
    for length in range(1, 5):
        clip = torch.randn(1, 3, length, 5, 5)
        torch.testing.assert_close(found(clip), small(clip))
    # Folded, channels last and the one to compile; from then on all but the one that serves.
    assert len(copies) == 3 + 3 * 2


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("i3d", {"non_local": {"mixed_3": [0]}}, (8, 32, 32)),
        ("s3d_g", {"non_local": {"mixed_3": [0]}}, (8, 32, 32)),
        ("x3d_xs", {"non_local": {"res3": [1]}}, (4, 32, 32)),
        ("r2plus1d_18", {"non_local": {"res3": [1]}}, (8, 16, 16)),
        ("c2d_r50", {"non_local": {"res4": [1]}}, (4, 32, 32)),
        ("slowfast_r50_8x8", {}, (8, 32, 32)),
        ("t3d_121", {}, (15, 32, 32)),
    ],
)
def test_networks_folded_and_with_channels_last_give_the_same(name, options, size):
    torch.manual_seed(0)
    model = lively(create_model(name, num_classes=5, **options))
    clip = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = model(clip)
        fold_batch_norms(model)
        torch.testing.assert_close(model(clip), expected, rtol=1e-3, atol=1e-4)
        channels_last(model)
        torch.testing.assert_close(model(clip), expected, rtol=1e-3, atol=1e-4)
    units = [module for module in model.modules() if isinstance(module, ConvUnit)]
    assert len(units) > 10
    assert all(isinstance(unit.norm, nn.Identity) for unit in units)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("lecture_3d_cnn", num_classes=5)


def test_the_network_stays_as_it_was(network, no_compiler):
    before = copy.deepcopy(network.state_dict())
    run, clips = fastest(network.train(), name="small"), torch.randn(2, 3, 20, 64, 64)
    logits = run(clips)
    assert network.training
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
    assert all(parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(logits, network.eval()(clips))
    assert not logits.requires_grad


def test_a_form_can_be_fixed(small, clip, no_compiler, monkeypatch):
    found = FastestForm(small, name="small")
    found.fix("folded", clip)
    monkeypatch.setattr(small, "forward", None)
    monkeypatch.setattr(forms_of, "_least_seconds", None)
    for length in (2, 3):
        assert found(torch.randn(1, 3, length, 5, 5)).isfinite().all()
    assert found.forms == {}
    with pytest.raises(InputError, match="small cannot run here in the form compiled"):
        found.fix("compiled", clip)
    with pytest.raises(InputError, match="small cannot run here in the form half"):
        found.fix("half", clip)
    with pytest.raises(UnknownNameError, match="Did you mean 'folded'"):
        found.fix("foldet", clip)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_values_beyond_half_precision_come_from_the_plain_form(small, clip, scale):
    run = forms_of._forms(small, torch.device("cuda"))["half"]()
    with torch.no_grad():
        found, expected = run(scale * clip), small(scale * clip)
    assert expected.isfinite().all()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected) == (scale > 1)
    assert (found - expected).abs().max() < forms_of.HALF_TOLERANCE * expected.abs().max()


def test_compiled_code_lies_in_the_cache(monkeypatch, tmp_path):
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda run, **options: run)
    # As importing inductor leaves it; and as a user does.
    for found, expected in (
        (default_cache_dir(), str(cache_folder().parent / "compiled")),
        ("/somewhere", "/somewhere"),
    ):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", found)
        forms_of._compiled(torch.relu)
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == expected


def test_wrong_input_is_the_networks_own_error(network):
    with pytest.raises(ShapeError, match="C = 3"):
        fastest(network)(torch.randn(1, 2, 20, 64, 64))
