"""Flow methods by entry point: real distributions, written to a folder on sys.path."""

import sys
import textwrap

import numpy as np
import pytest

from dualstream.errors import FlowError, InputError, ShapeError, UnknownNameError
from dualstream.flow import (
    DISParams,
    FlowJob,
    FlowStore,
    extract_flow,
    optical_flow,
    plugin_names,
)
from dualstream.flow.methods.lookup import find_method
from dualstream.types import Frames

FRAMES = Frames(np.zeros((3, 8, 10, 3), np.uint8), np.arange(3.0), "clip.mp4")

GOOD = """
    import numpy as np
    from dualstream.types import Flow

    def flow(frames):
        count = len(frames) - 1
        data = np.full((count, 2, *frames.size), 2.5, np.float32)
        return Flow(data, "whatever")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Function that lays a distribution with one module and its entry points on sys.path."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(package, entries, code=GOOD, *, version="1.2"):
        (tmp_path / f"{package}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{package}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        lines = [f"{name} = {package}:{target}" for name, target in entries]
        (folder / "entry_points.txt").write_text("\n".join(["[dualstream.flow]", *lines, ""]))

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def failing(statement):
    return f"""
    import numpy as np
    from dualstream.errors import InputError
    from dualstream.types import Flow

    def flow(frames):
        {statement}
    """


def test_a_plugin_is_found_and_computes(install):
    assert "constant" not in plugin_names()
    install("tinyflow", [("constant", "flow"), ("another", "flow")])
    names = plugin_names()
    assert {"constant", "another"} <= set(names)
    assert list(names) == sorted(names)
    assert "tinyflow" not in sys.modules  # listing imports nothing
    flow = optical_flow(FRAMES, method="constant")
    assert flow.data.shape == (2, 2, 8, 10)
    assert (flow.data == 2.5).all()
    assert (flow.method, flow.source) == ("constant", "clip.mp4")


def test_an_object_s_method_is_a_plugin_too(install):
    install(
        "tinyclass", [("dotted", "Method.flow")], GOOD + "\n    class Method:\n        flow = flow"
    )
    assert optical_flow(FRAMES, method="dotted").method == "dotted"


@pytest.mark.parametrize(
    "name", ["dis", "farneback", "tvl1", "raft", "motion-vectors", "warped-dis", "warped-mine"]
)
def test_built_in_names_stay_ours(install, name):
    install("thief", [(name, "flow")])
    assert name not in plugin_names()
    if name == "warped-mine":
        with pytest.raises(UnknownNameError, match="flow method 'warped-mine'"):
            optical_flow(FRAMES, method=name)
    else:
        assert find_method(name).params is not None  # a plugin's record has none
    assert "thief" not in sys.modules


def test_two_packages_of_one_name(install):
    install("first", [("same", "flow")])
    install("second", [("same", "flow")], version="3")
    assert plugin_names().count("same") == 1
    with pytest.raises(FlowError, match=r"first 1\.2\).*second 3\) have one name"):
        optical_flow(FRAMES, method="same")


def test_unknown_names_are_answered_with_the_known(install):
    install("tinyflow", [("constant", "flow")])
    with pytest.raises(UnknownNameError, match=r"'constnat'\. Did you mean 'constant'"):
        optical_flow(FRAMES, method="constnat")


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("return np.zeros((2, 2, 8, 10))", FlowError, r"must return a .*Flow, got ndarray"),
        ("return None", FlowError, "got NoneType"),
        (
            "return Flow(np.zeros((3, 2, 8, 10), np.float32), '')",
            ShapeError,
            r"flow of \(2, 2, 8, 10\) for 3 frames of 10x8 px, got \(3, 2, 8, 10\)",
        ),
        ("return Flow(np.zeros((2, 2, 4, 5), np.float32), '')", ShapeError, r"got \(2, 2, 4, 5\)"),
        (
            "d = np.zeros((2, 2, 8, 10), np.float32); d[1, 0, 2, 3] = np.nan; return Flow(d, '')",
            FlowError,
            r"returned a NaN or an infinity in field 1 of clip\.mp4",
        ),
        (
            "d = np.full((2, 2, 8, 10), np.inf, np.float32); return Flow(d, '')",
            FlowError,
            "infinity in field 0",
        ),
        ("raise RuntimeError('no weights')", FlowError, "failed on .*: RuntimeError: no weights"),
        ("return frames.nothing", FlowError, "failed on .*: AttributeError"),
        ("return 1 / 0", FlowError, "failed on .*: ZeroDivisionError"),
        ("assert not frames", FlowError, r"failed on clip\.mp4: AssertionError\."),
    ],
)
def test_wrong_results_name_the_plugin_and_its_package(install, statement, error, message):
    install("badflow", [("bad", "flow")], failing(statement))
    with pytest.raises(error, match=message) as caught:
        optical_flow(FRAMES, method="bad")
    assert "'bad' (badflow:flow of badflow 1.2)" in str(caught.value)


def test_errors_of_this_package_go_through_as_they_are(install):
    install("ownerror", [("own", "flow")], failing("raise InputError('too small')"))
    with pytest.raises(InputError, match=r"^too small$"):
        optical_flow(FRAMES, method="own")


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("import not_there_at_all", "flow", "cannot be loaded: ModuleNotFoundError"),
        ("x = 1", "flow", "cannot be loaded: AttributeError"),
        ("def flow(:", "flow", "cannot be loaded: SyntaxError"),
        ("raise RuntimeError('needs CUDA')", "flow", "cannot be loaded: RuntimeError: needs CUDA"),
        ("flow = 3", "flow", "is not a function but int"),
    ],
)
def test_plugins_that_cannot_be_loaded(install, code, target, message):
    install("broken", [("broken", target)], code)
    assert "broken" in plugin_names()
    with pytest.raises(FlowError, match=message) as caught:
        optical_flow(FRAMES, method="broken")
    assert "of broken 1.2)" in str(caught.value)


def test_one_frame_is_too_few(install):
    install("tinyflow", [("constant", "flow")])
    one = Frames(FRAMES.data[:1], FRAMES.pts_seconds[:1], "short.mp4")
    with pytest.raises(FlowError, match=r"at least 2 frames; short\.mp4 has 1"):
        optical_flow(one, method="constant")


def test_optical_flow_runs_a_plugin_by_name(install):
    install("tinyflow", [("constant", "flow")])
    flow = optical_flow(FRAMES, method="constant", short_side=4)
    assert flow.data.shape == (2, 2, 4, 5)
    assert flow.method == "constant"
    backward = optical_flow(FRAMES, method="constant", direction="backward")
    assert (backward.data == 2.5).all()
    with pytest.raises(InputError, match="'constant' takes no params"):
        optical_flow(FRAMES, method="constant", params=DISParams())
    with pytest.raises(InputError, match="runs on the CPU only"):
        optical_flow(FRAMES, method="constant", device="cuda")


def test_a_store_can_be_made_by_a_plugin(install, tiny_video, tmp_path):
    install("tinyflow", [("constant", "flow")])
    job = FlowJob("a.mp4", str(tiny_video("a.mp4", num_frames=4)))
    (outcome,) = extract_flow([job], tmp_path / "store", method="constant")
    assert (outcome.status, outcome.num_fields) == ("done", 3), outcome.error
    with FlowStore(tmp_path / "store").open("a.mp4") as file:
        assert (file.meta.method, file.meta.params) == ("constant", {})
        assert (file.read([0, 2]) == round(2.5 * 127.5 / 20) + 128).all()
