"""Explanations of a trained network where the place of what it should see is known.

Four classes of the synthetic set differ in the sprite's pattern and colour only, in front of the
same backgrounds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.engine.tiny import changed, tiny_recipe

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.synthetic import SyntheticSpec, class_names
from dualstream.clips.data.synthetic.render import MOTIONS, draw_scene, place_order
from dualstream.engine.demo import make_data
from dualstream.engine.infer.explain import ExplainedStream, explain
from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.engine.train.fit import train
from dualstream.models.grad_cam import correlations

SPEC = SyntheticSpec(
    num_motions=1, train_videos_per_class=10, test_videos_per_class=4, num_frames=8, size=64
)
LAYER = "backbone.layer3"
TEST_INDICES = range(10, 14)

Explained = list[tuple[int, ExplainedStream]]
"""Index of the scene, and its stream, of each test video."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("synthetic"), SPEC, workers=1)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    recipe = changed(
        tiny_recipe(epochs=12, batch_size=8),
        clip={"short_side": 64, "crop_size": 56},
        train__optimizer={"name": "adamw", "lr": 0.003},
    )
    run = train(recipe, data, tmp_path_factory.mktemp("runs") / "rgb")
    return as_recognizer(run.folder)


def explained(recognizer: Recognizer, data: Path) -> Explained:
    """Explanations for the true class of the test videos."""
    manifest = Manifest.read(data)
    found = []
    for look, name in enumerate(class_names(SPEC)):
        for index in TEST_INDICES:
            record = next(r for r in manifest.records if r.path.endswith(f"{name}_{index:03d}.mp4"))
            assert record.label == look
            (window,) = explain(
                manifest.video_path(record), recognizer, layers=[LAYER], label=name, segments=4,
                pieces=4,
            )  # fmt: skip
            found.append((index, window.streams["rgb"]))
    return found


def sprites(index: int, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(F, H, W): where the sprite is in frames of a video of a scene."""
    scene = draw_scene(SPEC, index)
    order = place_order(
        MOTIONS[0], num_frames=SPEC.num_frames, first=scene.first_place, direction=scene.direction
    )
    rows, columns = np.mgrid[: SPEC.size, : SPEC.size]
    radius = np.sqrt((scene.opacity > 0.5).sum() / np.pi)
    return np.stack(
        [np.hypot(columns - x, rows - y) <= radius for x, y in scene.places_px[order[numbers]]]
    )


def pointing_game(found: Explained) -> float:
    """Share of frames where the maximum of the map is on the sprite.

    Source:
        Zhang et al. 2016, section 4.1, without their tolerance of 15 pixels.
    """
    hits = []
    for index, stream in found:
        numbers, maps = stream.over_frames(LAYER)
        for map_, sprite in zip(maps, sprites(index, numbers), strict=True):
            place = np.unravel_index(map_.argmax(), map_.shape)
            hits.append(bool(map_.any() and sprite[place]))
    return float(np.mean(hits))


def randomised(recognizer: Recognizer, *, only_head: bool) -> Recognizer:
    """The network with the weights of another start: of its classifier, or all."""
    torch.manual_seed(7)
    other = as_recognizer(recognizer).model
    import copy

    other = copy.deepcopy(other)
    for name, module in other.named_modules():
        if hasattr(module, "reset_parameters") and (not only_head or name == "classifier"):
            module.reset_parameters()
    return Recognizer(recognizer.name, other, recognizer.spec, recognizer.classes)


@pytest.mark.slow
def test_pointing_game_and_randomised_weights(trained: Recognizer, data: Path) -> None:
    found = explained(trained, data)
    assert np.mean([stream.probability > 0.5 for _, stream in found]) >= 0.75
    hits = pointing_game(found)
    centre = float(np.mean([sprites(i, np.arange(8))[:, 32, 32].mean() for i in TEST_INDICES]))
    print(f"pointing game {hits:.2f}, centre {centre:.2f}")
    assert hits >= 0.75
    own = torch.from_numpy(np.concatenate([stream.over_frames(LAYER)[1] for _, stream in found]))
    for only_head in (True, False):
        other = explained(randomised(trained, only_head=only_head), data)
        maps = np.concatenate([stream.over_frames(LAYER)[1] for _, stream in other])
        alike = correlations(own, torch.from_numpy(maps)).mean().item()
        print(f"head only {only_head}: correlation {alike:.2f}, hits {pointing_game(other):.2f}")
        assert alike < 0.4
