"""Names, settings and checks of the optical-flow methods."""

import pytest

from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import DISParams, FarnebackParams, RAFTParams, TVL1Params, params_from_settings
from dualstream.flow.methods.lookup import find_method


def test_defaults_are_those_of_the_reference():
    # OpenCV's DualTVL1OpticalFlow::create and the Farneback settings of design/flow.md
    tvl1 = TVL1Params()
    assert (tvl1.tau, tvl1.lambda_, tvl1.theta) == (0.25, 0.15, 0.3)
    assert (tvl1.scales, tvl1.scale_step, tvl1.warps, tvl1.epsilon) == (5, 0.8, 5, 0.01)
    assert (tvl1.inner_iterations, tvl1.outer_iterations, tvl1.median_size) == (30, 10, 5)
    farneback = FarnebackParams()
    assert (farneback.pyramid_scale, farneback.levels, farneback.window) == (0.5, 5, 15)
    assert (farneback.iterations, farneback.poly_n, farneback.poly_sigma) == (3, 5, 1.2)
    assert DISParams().preset == "medium"
    assert RAFTParams() == RAFTParams(size="large", updates=12)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (TVL1Params, {"scale_step": 1.0}, "scale_step"),
        (TVL1Params, {"warps": 0}, "warps"),
        (TVL1Params, {"theta": 0.0}, "theta"),
        (TVL1Params, {"epsilon": -0.1}, "epsilon"),
        (TVL1Params, {"epsilon": float("nan")}, "epsilon"),
        (TVL1Params, {"median_size": 4}, "median_size"),
        (FarnebackParams, {"pyramid_scale": 0.0}, "pyramid_scale"),
        (FarnebackParams, {"poly_n": 1}, "poly_n"),
        (FarnebackParams, {"poly_sigma": 0.0}, "poly_sigma"),
        (RAFTParams, {"updates": 0}, "updates"),
    ],
)
def test_impossible_settings_are_named(kind, values, named):
    with pytest.raises(InputError, match=rf"{kind.__name__}\.{named}"):
        kind(**values)


def test_unknown_choices_list_the_allowed_ones():
    with pytest.raises(UnknownNameError, match="medium"):
        DISParams(preset="slow")
    with pytest.raises(UnknownNameError, match="small, large"):
        RAFTParams(size="tiny")
    with pytest.raises(UnknownNameError, match="Did you mean 'tvl1'"):
        find_method("tv-l1")


def test_settings_of_another_method_are_refused():
    with pytest.raises(InputError, match="'dis' takes DISParams, got TVL1Params"):
        find_method("dis").resolve(TVL1Params())


def test_settings_from_texts():
    assert params_from_settings("dis", ["preset=fast"]) == DISParams(preset="fast")
    assert params_from_settings("tvl1", ["lambda=0.2", "warps=3"]) == TVL1Params(
        lambda_=0.2, warps=3
    )
    assert params_from_settings("raft", []) == RAFTParams()
    with pytest.raises(UnknownNameError, match="setting of tvl1 'warp'"):
        params_from_settings("tvl1", ["warp=3"])
    with pytest.raises(InputError, match="warps takes int, got 'many'"):
        params_from_settings("tvl1", ["warps=many"])
    with pytest.raises(InputError, match="name=value"):
        params_from_settings("dis", ["fast"])
