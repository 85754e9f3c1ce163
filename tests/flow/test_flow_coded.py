"""Flow that files hold: the same bytes as from a store, in any order of reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import changed, tiny_recipe, untrained_run

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.errors import FlowError, InputError
from dualstream.flow import FlowJob, FlowStore, extract_flow
from dualstream.flow.coded import CodedFields, CodedFlow
from dualstream.flow.methods.lookup import find_method
from dualstream.types import Flow
from dualstream.video import VideoReader

VECTORS = find_method("motion-vectors")


@pytest.fixture(scope="module")
def store(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = Manifest.read(tiny_data)
    jobs = [FlowJob(r.path, str(manifest.video_path(r)), r.sha256) for r in manifest.records]
    root = tmp_path_factory.mktemp("vectors")
    outcomes = list(extract_flow(jobs, root, workers=1, method="motion-vectors"))
    assert {outcome.status for outcome in outcomes} == {"done"}
    return root


def test_a_file_is_predicted_as_it_is_tested(tiny_data: Path, store: Path, tmp_path: Path) -> None:
    recipe = changed(tiny_recipe("flow"), input__flow_method="motion-vectors")
    run = untrained_run(recipe, tiny_data, tmp_path / "run", flow=store)
    tested = ds.evaluate(run, workers=0).scores
    for name, probabilities in zip(tested.names, tested.scores, strict=True):
        video = tiny_data / "videos" / name
        found = ds.predict(video, str(run), segments=2, crops="three")
        np.testing.assert_array_equal(found.probabilities, probabilities)
        windows = ds.predict(video, str(run), window_seconds=0.2, segments=2, crops="three")
        assert len(windows.window_seconds) > 1
    with VideoReader(video) as reader, pytest.raises(InputError, match="predict the file"):
        ds.predict(reader, str(run))


def test_fields_are_those_of_the_store_in_any_order(tiny_data: Path, store: Path) -> None:
    record = Manifest.read(tiny_data).records[0]
    path = str(tiny_data / "videos" / record.path)
    flow = CodedFlow(
        CodedFields(path, VECTORS, None),
        np.arange(2, record.frames),
        size=(record.height, record.width),
    )
    assert flow.num_fields == record.frames - 3
    with FlowStore(store).open(record.path) as stored:
        for wanted in ([3, 0, 3], [5], [1, 2]):
            expected = stored.read([index + 2 for index in wanted]).data
            np.testing.assert_array_equal(flow.read(wanted).data, expected)
    with pytest.raises(InputError, match="forward"):
        flow.read([0], direction="backward")
    with pytest.raises(InputError, match=str(flow.num_fields)):
        flow.read([flow.num_fields])


def test_a_file_is_read_on_and_not_again() -> None:
    opened = []

    def windows(path: str, length: int, params: object) -> Iterator[Flow]:
        opened.append(path)
        for first in (0, 2, 4):
            numbers = np.arange(first, first + 2, dtype=np.float32)
            yield Flow(np.tile(numbers[:, None, None, None], (1, 2, 4, 6)), "known")

    fields = CodedFields("a.mp4", replace(VECTORS, read_file=windows), None)
    assert fields.read([0, 1, 1, 3])[:, 0, 0, 0].tolist() == [0, 1, 1, 3]
    assert fields.read([2, 5])[:, 0, 0, 0].tolist() == [2, 5]
    assert len(opened) == 1
    assert fields.read([1])[:, 0, 0, 0].tolist() == [1]
    assert len(opened) == 2
    with pytest.raises(FlowError, match="ends before its field 6"):
        fields.read([6])


def test_pixels_are_those_of_the_networks_grid() -> None:
    def windows(path: str, length: int, params: object) -> Iterator[Flow]:
        yield Flow(np.full((3, 2, 48, 64), 4, np.float32), "known")

    fields = CodedFields("a.mp4", replace(VECTORS, read_file=windows), None)
    shown = np.arange(4)
    flow = CodedFlow(fields, shown, size=(48, 64), short_side=24)
    assert np.unique(flow.read([0, 1, 2]).data).tolist() == [round(2 * 127.5 / 20) + 128]
    with pytest.raises(InputError, match="resampled to another frame rate"):
        CodedFlow(fields, shown * 2, size=(48, 64))
