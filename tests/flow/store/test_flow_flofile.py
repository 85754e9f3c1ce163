"""Middlebury .flo files."""

import struct

import numpy as np
import pytest

from dualstream.errors import FlowError, ShapeError
from dualstream.flow import read_flo, write_flo


def test_bytes_are_those_of_the_format(tmp_path):
    flow = np.array([[[1, 2, 3]], [[-4, 5, 6.5]]], np.float32)  # (2, 1, 3)
    write_flo(tmp_path / "a.flo", flow)
    expected = struct.pack("<fii6f", 202021.25, 3, 1, 1, -4, 2, 5, 3, 6.5)
    assert (tmp_path / "a.flo").read_bytes() == expected
    assert read_flo(tmp_path / "a.flo").tolist() == flow.tolist()


def test_middlebury_truth(shared):
    flow = read_flo(shared / "flow" / "rubberwhale_gt.flo")
    assert flow.shape == (2, 388, 584)
    known = np.abs(flow).max(0) < 1e9
    # cv2.readOpticalFlow of opencv-contrib-python-headless 5.0.0.93
    assert known.sum() == 222970
    assert flow[:, known].mean(1) == pytest.approx([0.06414888, -0.11611655], abs=1e-6)
    assert flow[:, 100, 200] == pytest.approx([0.5310312, -0.6516469], abs=1e-6)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not start with 'PIEH'"),
        (b"RIFF" + bytes(100), "does not start with 'PIEH'"),
        (b"PIEH" + struct.pack("<ii", 0, 5), "impossible size, 0x5"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(31), "43 bytes; 2x2 flow takes 44"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(33), "45 bytes; 2x2 flow takes 44"),
    ],
)
def test_broken_files_are_named(tmp_path, data, said):
    path = tmp_path / "broken.flo"
    path.write_bytes(data)
    with pytest.raises(FlowError, match=said) as caught:
        read_flo(path)
    assert "broken.flo" in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FlowError, match=r"absent\.flo cannot be read"):
        read_flo(tmp_path / "absent.flo")


def test_other_shapes_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"\(3, 4, 4\)"):
        write_flo(tmp_path / "a.flo", np.zeros((3, 4, 4), np.float32))
    assert not list(tmp_path.iterdir())
