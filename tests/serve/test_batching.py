"""Windows of several videos in one batch have the logits that they have alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.engine.infer.recognizer import Recognizer, as_recognizer
from dualstream.errors import ShapeError
from dualstream.serve.batching import Batched, all_alone


def clip(seed: int, views: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    shape = (views, 3, 1, 32, 32)
    return {"rgb": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy()}


@pytest.fixture(scope="module", params=["average", "attention"])
def recognizer(
    request: pytest.FixtureRequest, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recognizer:
    """A network that sees each view by itself, and one that joins segments."""
    recipe = tiny_recipe("rgb").model_dump()
    recipe["model"]["options"]["consensus"] = request.param
    folder = tmp_path_factory.mktemp("batched") / request.param
    run = untrained_run(type(tiny_recipe("rgb")).model_validate(recipe), tiny_data, folder)
    found = as_recognizer(run)
    found.model.eval()
    return found


def test_what_waits_runs_together(recognizer: Recognizer) -> None:
    sizes: list[int] = []
    batched = Batched(recognizer, on_batch=sizes.append)
    clips = [clip(seed, views) for seed, views in enumerate((3, 6, 3))]  # 3 segments, 1 or 2 crops
    alone = recognizer.running()
    expected = [alone(one, 3) for one in clips]
    found: dict[int, np.ndarray] = {}
    run = batched.running()
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: run(clips[n], 3)})) for n in range(3)
    ]
    with all_alone([batched]):  # all have to wait
        for thread in threads:
            thread.start()
        while len(batched._waiting) < 3:
            pass
    for thread in threads:
        thread.join()
    assert sizes == [3]
    for number, logits in enumerate(expected):
        np.testing.assert_allclose(found[number], logits, atol=1e-5)


def test_what_does_not_fit_runs_by_itself(recognizer: Recognizer) -> None:
    batched = Batched(recognizer)
    run = batched.running()
    np.testing.assert_array_equal(run(clip(0, 2), 2), recognizer.running()(clip(0, 2), 2))
    for name in ("name", "spec", "classes", "flow_params", "labels", "joins_segments"):
        assert getattr(batched, name) == getattr(recognizer, name)


def test_an_error_reaches_who_waits_for_it(recognizer: Recognizer) -> None:
    run = Batched(recognizer).running()
    broken = {"rgb": np.zeros((3, 5, 1, 32, 32), np.uint8)}
    with pytest.raises(ShapeError, match="needs C = 3"):
        run(broken, 3)
    assert run(clip(1, 3), 3).shape[-1] == 2
