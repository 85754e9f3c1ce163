"""Flow under the names that stores and recipes use."""

import numpy as np
import pytest

from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import DISParams, TVL1FastParams, optical_flow, warped_flow
from dualstream.flow.methods.lookup import check_flow_name, params_from_values
from dualstream.flow.methods.params import MotionVectorParams
from dualstream.types import Frames


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(2)
    texture = np.kron(rng.integers(30, 220, (20, 24)), np.ones((5, 5)))[..., None]
    data = np.stack([np.roll(texture, t, axis=1).repeat(3, -1) for t in range(3)])
    return Frames(data.astype(np.uint8), np.arange(3) / 25, "pan")


@pytest.mark.parametrize(
    "name", ["dis", "tvl1", "tvl1-fast", "raft", "warped-tvl1", "warped-dis", "motion-vectors"]
)
def test_known_names(name):
    assert check_flow_name(name) == name


@pytest.mark.parametrize("name", ["tvl2", "warped-tvl2", "warped-motion-vectors", "warped-", ""])
def test_unknown_names_list_the_known(name):
    with pytest.raises(UnknownNameError, match=r"warped-tvl1-fast, .*motion-vectors"):
        check_flow_name(name)


def test_settings_come_back_from_what_meta_json_tells():
    assert params_from_values("dis", {"preset": "fast"}) == DISParams(preset="fast")
    assert params_from_values("warped-tvl1-fast", {"warps": 2}) == TVL1FastParams(warps=2)
    assert params_from_values("tvl1-fast", None) == TVL1FastParams()
    assert params_from_values("motion-vectors", {"intra": "zero"}) == MotionVectorParams(
        intra="zero"
    )


def test_the_name_decides(frames):
    plain = optical_flow(frames, method="dis", params=DISParams(preset="fast"), short_side=64)
    expected = optical_flow(frames, method="dis", params=DISParams(preset="fast"), short_side=64)
    assert np.array_equal(plain.data, expected.data)
    warped = optical_flow(frames, method="warped-dis")
    assert warped.method == "warped-dis"
    assert np.array_equal(warped.data, warped_flow(frames, method="dis").data)
    back = optical_flow(frames, method="dis", direction="backward")
    assert np.array_equal(back.data, optical_flow(frames, method="dis", direction="backward").data)


def test_what_frames_cannot_give(frames):
    with pytest.raises(InputError, match="predict the file, or store them with `dualstream flow"):
        optical_flow(frames, method="motion-vectors")
    with pytest.raises(InputError, match="'forward' only"):
        optical_flow(frames, method="warped-dis", direction="backward")
    with pytest.raises(UnknownNameError, match="flow method 'flo'"):
        optical_flow(frames, method="flo")
