"""Folders of flow images."""

import cv2
import numpy as np
import pytest

from dualstream.errors import FlowStoreError, InputError
from dualstream.flow import FlowFolder, FlowMeta, dequantize, write_folder


def denseflow_folder(path, count=3, *, first=1, prefix="flow_", suffix=".jpg", size=(20, 24)):
    """What denseflow writes: field i has x byte 10 * i + 100 and y byte 200 everywhere."""
    path.mkdir(parents=True)
    for i in range(count):
        for plane, byte in (("x", 10 * i + 100), ("y", 200)):
            name = f"{prefix}{plane}_{i + first:05d}{suffix}"
            cv2.imwrite(str(path / name), np.full(size, byte, np.uint8))
    return path


@pytest.mark.parametrize(
    "layout",
    [{}, {"first": 0}, {"prefix": ""}, {"suffix": ".png"}, {"first": 17, "prefix": ""}],
)
def test_folders_of_other_programs(tmp_path, layout):
    path = denseflow_folder(tmp_path / "v", **layout)
    (path / "img_00001.jpg").write_bytes(b"a frame")
    with FlowFolder.open(path) as folder:
        assert folder.num_fields == 3
        assert (folder.meta.method, folder.meta.height, folder.meta.width) == ("unknown", 20, 24)
        data = folder.read([2, 0])
        folder.verify()
    assert data.shape == (2, 2, 20, 24)
    # denseflow's 120, 100 and 200 in our mapping: below 128 one more, else the same
    assert data[:, :, 0, 0].tolist() == [[121, 200], [101, 200]]


def test_no_motion_of_denseflow_is_no_motion_here(tmp_path):
    write_folder(tmp_path / "v", [np.zeros((1, 2, 16, 16), np.float32)], FlowMeta(method="dis"))
    assert (cv2.imread(str(tmp_path / "v" / "flow_x_00001.jpg"), 0) == 128).all()
    with FlowFolder.open(tmp_path / "v") as folder:
        assert (dequantize(folder.read([0])) == 0).all()


def test_written_folders_come_back(tmp_path):
    flow = np.zeros((5, 2, 16, 24), np.float32)
    flow[:, 0] = np.arange(5)[:, None, None]
    flow[:, 1] = -2.5
    given = FlowMeta(method="tvl1", bound_px=10.0, source="v.mp4", source_sha256="ab" * 32)
    written = write_folder(tmp_path / "v", [flow[:2], flow[2:]], given)
    assert (written.height, written.width, written.num_fields) == (16, 24, 5)
    names = sorted(path.name for path in (tmp_path / "v").iterdir())
    images = [f"flow_{plane}_{n:05d}.jpg" for plane in "xy" for n in range(1, 6)]
    assert names == [*images, "meta.json"]
    with FlowFolder.open(tmp_path / "v", source_sha256="ab" * 32) as folder:
        assert folder.meta == written
        back = dequantize(folder.read(range(5)), bound_px=folder.meta.bound_px)
    assert np.abs(back - flow).max() <= 10 / 127.5
    with pytest.raises(FlowStoreError, match="another video"):
        FlowFolder.open(tmp_path / "v", source_sha256="cd" * 32)


def test_locate_follows_the_video_name(tmp_path):
    denseflow_folder(tmp_path / "class" / "a.b")
    denseflow_folder(tmp_path / "c")
    assert FlowFolder.locate(tmp_path, "class/a.b.mp4") == tmp_path / "class" / "a.b"
    assert FlowFolder.locate(tmp_path, "class/c.avi") == tmp_path / "c"
    assert FlowFolder.locate(tmp_path, "class/d.avi") is None


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(FlowStoreError, match="absent cannot be read"):
        FlowFolder.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlowStoreError, match="0 images"):
        FlowFolder.open(tmp_path / "empty")
    path = denseflow_folder(tmp_path / "unpaired")
    (path / "flow_y_00002.jpg").unlink()
    with pytest.raises(FlowStoreError, match=r"unpaired is broken.*3 images flow_x.*2 images"):
        FlowFolder.open(path)
    (path / "flow_x_00002.jpg").unlink()
    with pytest.raises(FlowStoreError, match="image number 2 is missing"):
        FlowFolder.open(path)


def test_broken_images_are_named(tmp_path):
    path = denseflow_folder(tmp_path / "v")
    (path / "flow_y_00003.jpg").write_bytes(b"no image")
    cv2.imwrite(str(path / "flow_x_00002.jpg"), np.zeros((4, 4), np.uint8))
    with FlowFolder.open(path) as folder:
        with pytest.raises(FlowStoreError, match=r"flow_y_00003\.jpg is not an image"):
            folder.read([2])
        with pytest.raises(FlowStoreError, match=r"flow_x_00002\.jpg is 4x4 px, not 24x20"):
            folder.verify()
        with pytest.raises(InputError, match="no field 3"):
            folder.read([3])
    (path / "flow_x_00001.jpg").unlink()
    (path / "flow_y_00001.jpg").unlink()


def test_a_folder_that_lost_images_does_not_fit_its_meta(tmp_path):
    flow = np.zeros((3, 2, 16, 16), np.float32)
    write_folder(tmp_path / "v", [flow], FlowMeta(method="dis"))
    for plane in "xy":
        (tmp_path / "v" / f"flow_{plane}_00003.jpg").unlink()
    with pytest.raises(FlowStoreError, match=r"meta\.json has 3 fields, 2 are there"):
        FlowFolder.open(tmp_path / "v")


def test_nothing_is_left_of_a_failed_folder(tmp_path):
    with pytest.raises(FlowStoreError, match="no flow field"):
        write_folder(tmp_path / "v", [], FlowMeta(method="dis"))
    flow = np.full((1, 2, 16, 16), np.nan, np.float32)
    with pytest.raises(InputError, match="NaN"):
        write_folder(tmp_path / "v", [flow], FlowMeta(method="dis"))
    assert not list(tmp_path.iterdir())
