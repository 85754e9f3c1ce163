"""Values that check themselves on creation."""

import pytest

from dualstream.errors import InputError, UnknownNameError
from dualstream.types import InputSpec


def flow_spec(**changes):
    return InputSpec("flow", num_frames=2, mean=(0, 0), std=(1, 1), **changes)


def test_what_comes_beyond_the_end_is_a_choice():
    assert InputSpec("rgb").beyond_end == "hold"
    assert flow_spec(beyond_end="loop").beyond_end == "loop"
    with pytest.raises(UnknownNameError, match="beyond_end"):
        InputSpec("rgb", beyond_end="mirror")


@pytest.mark.parametrize("stacking", ["trajectory", "bidirectional"])
def test_paths_through_a_looped_video_are_refused(stacking):
    assert flow_spec(stacking=stacking).stacking == stacking
    with pytest.raises(InputError, match="use beyond_end='hold'"):
        flow_spec(stacking=stacking, beyond_end="loop")
