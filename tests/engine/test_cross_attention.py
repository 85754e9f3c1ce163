"""Cross attention trains by both schedules, resumes bit for bit, and is tested without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.engine.tiny import changed, stop_in_epoch
from torch import Tensor

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.train.cross_attention import CrossAttentionModule
from dualstream.errors import RecipeError
from dualstream.models.joined.attention import START

SCHEDULES = {
    "two_phase": {"schedule": "two_phase", "constant_epochs": 2, "network_epochs": 2},
    "end_to_end": {"schedule": "end_to_end", "network_epochs": 2},
}
"""Of six epochs."""


def recipe_of(schedule: str, *, epochs: int = 6, **attention: object) -> Recipe:
    """Six epochs on 64 pixels, where the last block has 2 x 2 places."""
    return Recipe.model_validate(
        {
            "title": "cross attention",
            "model": {
                "name": "cross_attention",
                "options": {"backbone": "test_resnet", "hidden": 8},
            },
            "clip": {"short_side": 72, "crop_size": 64},
            "inputs": {"rgb": {}, "flow": {"num_frames": 3, "std": [3, 3]}},
            "data": {"workers": 0, "hold_out": 0.25},
            "train": {
                "epochs": epochs,
                "batch_size": 3,
                "segments": 2,
                "accelerator": "cpu",
                "losses": {"rgb": 1, "flow": 1},
                "optimizer": {"name": "sgd", "lr": 0.01},
                "schedule": {"name": "cosine"},
                "ema_decay": 0.5,
                "attention": SCHEDULES[schedule] | attention,
            },
            "test": {"segments": 3, "crops": "three"},
        }
    )


@pytest.fixture(scope="module", params=list(SCHEDULES))
def run(request: pytest.FixtureRequest, tiny_data: Path, tmp_path_factory) -> Path:
    """A whole run of each schedule."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    result = ds.train(recipe_of(request.param), tiny_data, folder)
    assert result.epochs == 6
    assert result.held_out_top1 is not None
    return folder


def schedule_of(run: Path) -> str:
    return run.parent.name.rstrip("0123456789")


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [2, 4, 5])
def test_a_stopped_run_ends_as_an_unbroken_one(
    run: Path, epoch: int, tiny_data: Path, tmp_path: Path
) -> None:
    """Stopped in each phase, and in the first epoch of the attention networks."""
    broken = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="stopped by the test"):
        ds.train(recipe_of(schedule_of(run)), tiny_data, broken, listener=stop_in_epoch(epoch))
    ds.resume(broken)
    one, other = (load_file(folder / "model.safetensors") for folder in (run, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_it_is_tested_and_predicts(run: Path, tiny_data: Path) -> None:
    tested = ds.evaluate(run, workers=0)
    assert tested.failures == {}
    assert tested.scores.scores.shape == (4, 2)
    video = tiny_data / "videos" / tested.scores.names[0]
    predicted = ds.predict(video, str(run), segments=3, crops="three")
    # Of the video itself: stored flow went through JPEG.
    np.testing.assert_allclose(predicted.probabilities, tested.scores.scores[0], atol=0.03)


@pytest.mark.slow
def test_no_label_reaches_the_test_path(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Other labels of the test videos, in the files as well, change no score."""
    whole = Manifest.read(tiny_data)
    turned = [replace(r, label=1 - r.label) if "test" in r.splits else r for r in whole.records]
    Manifest(tuple(turned), whole.classes, whole.root).write(tmp_path)
    one = ds.evaluate(run, workers=0)
    other = ds.evaluate(
        run, data=tmp_path, flow=tiny_data / "flow", out=tmp_path / "scores.npz", workers=0
    )
    assert (one.scores.labels != other.scores.labels).all()
    assert np.array_equal(one.scores.scores, other.scores.scores)


class Steps:
    """Records what each epoch of a training moved, and the maps that its towers saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.maps: dict[int, list[Tensor]] = {}
        self.moved: dict[int, set[str]] = {}
        real_maps, real_start = CrossAttentionModule.maps, CrossAttentionModule.on_train_epoch_start
        before: dict[str, Tensor] = {}

        def maps(module, clips, labels):
            found = real_maps(module, clips, labels)
            self.maps.setdefault(module.current_epoch, []).extend(found.values())
            return found

        def on_start(module):
            self.note(module, before)
            real_start(module)

        monkeypatch.setattr(CrossAttentionModule, "maps", maps)
        monkeypatch.setattr(CrossAttentionModule, "on_train_epoch_start", on_start)
        monkeypatch.setattr(
            CrossAttentionModule, "on_train_end", lambda m: self.note(m, before), raising=False
        )

    def note(self, module: CrossAttentionModule, before: dict[str, Tensor]) -> None:
        now = {n: p.detach().clone() for n, p in module.model.state_dict().items()}
        if before:
            self.moved[len(self.moved)] = {
                n.split(".")[0] for n in now if not torch.equal(now[n], before[n])
            }
        before.update(now)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_each_phase_trains_its_part(
    schedule: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    ds.train(recipe_of(schedule), tiny_data, tmp_path / "run")
    towers, networks = {"tower", "map_filters"}, {"attention"}
    assert [steps.moved[e] for e in range(6)] == [towers] * 4 + [networks] * 2
    constant = range(SCHEDULES[schedule].get("constant_epochs", 0))
    for epoch, maps in steps.maps.items():
        joined = torch.cat([m.flatten() for m in maps])
        if epoch in constant:
            assert (joined == torch.tensor(START)).all()
        else:
            assert (joined.min(), joined.max()) == (0, 1)  # what Grad-CAM gives
    assert sorted(steps.maps) == [0, 1, 2, 3]


@pytest.mark.slow
def test_attention_networks_come_near_grad_cam(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On videos that they were not trained on; the loss falls and the maps agree."""
    found: dict[str, list[float]] = {}

    def log_dict(module, values, **settings):
        for name, value in values.items():
            if name.startswith("attention_held_out"):
                found.setdefault(name, []).append(float(value))
        real(module, values, **settings)

    real = CrossAttentionModule.log_dict
    monkeypatch.setattr(CrossAttentionModule, "log_dict", log_dict)
    recipe = recipe_of("two_phase", epochs=23, network_epochs=18, network_lr=0.02, hold_out=0.4)
    options = {"backbone": "test_resnet", "hidden": 8, "targets": ["backbone.layer2"]}
    recipe = changed(recipe, data__hold_out=0.0, model__options=options)
    ds.train(recipe, tiny_data, tmp_path / "run")
    for stream in ("rgb", "flow"):
        losses, agreements = (
            found[f"attention_held_out_{name}/{stream}"] for name in ("loss", "correlation")
        )
        # Of a few videos each, so single ones tell nothing.
        assert np.mean(losses[-16:]) < np.mean(losses[:8])
        assert np.mean(agreements[-20:]) > 0.1  # of the constant map: 0


@pytest.mark.slow
def test_a_recipe_says_how_maps_are_learnt(tiny_data: Path, tmp_path: Path) -> None:
    recipe, run = recipe_of("end_to_end"), tmp_path / "run"
    with pytest.raises(RecipeError, match=r"say in train\.attention how they are learnt"):
        ds.train(changed(recipe, train__attention=None), tiny_data, run)
    tower = {"name": "tsn", "backbone": "test_resnet"}
    plain = {"name": "two_stream", "options": {"towers": {"rgb": tower, "flow": tower}}}
    with pytest.raises(RecipeError, match=r"train\.attention is for networks that exchange"):
        ds.train(changed(recipe, model=plain), tiny_data, run)
    assert not run.exists()
    for attention, message in (
        ({"schedule": "two_phase", "network_epochs": 2}, "constant_epochs must be at least 1"),
        ({"schedule": "end_to_end", "network_epochs": 6}, "leaves no epoch with maps"),
    ):
        with pytest.raises(ValueError, match=message):
            changed(recipe, train__attention=attention)
    stopping = {**recipe.train.model_dump(), "early_stop_patience": 2}
    with pytest.raises(ValueError, match="end a run before train"):
        changed(recipe, train=stopping)
