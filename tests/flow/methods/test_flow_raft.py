"""RAFT: sizes and weights. The published weights are not in the tests; random ones stand in."""

import urllib.error

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_small

from dualstream.errors import WeightsError
from dualstream.flow import RAFTParams, optical_flow
from dualstream.flow.methods.raft import padding, raft_flow, weights_path
from dualstream.types import Frames

SMALL = RAFTParams(size="small", updates=2)


@pytest.fixture(scope="module")
def random_weights():
    torch.manual_seed(0)
    return raft_small(weights=None, progress=False).eval().state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache on a machine without a network."""

    def unreachable(url, path, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    path = weights_path("small")
    path.parent.mkdir(parents=True)
    return path


def images(count=2, size=(40, 52)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    # (height, width) -> (left, right, top, bottom)
    [
        ((240, 320), (0, 0, 0, 0)),
        ((240, 322), (3, 3, 0, 0)),
        ((241, 321), (3, 4, 3, 4)),
        ((100, 100), (14, 14, 14, 14)),
        ((128, 129), (3, 4, 0, 0)),
        ((16, 127), (0, 1, 56, 56)),
    ],
)
def test_padding(size, expected):
    left, right, top, bottom = expected
    assert padding(*size) == expected
    assert (size[0] + top + bottom) % 8 == (size[1] + left + right) % 8 == 0


def test_where_the_weights_lie(hub, tmp_path):
    assert hub == tmp_path / "hub" / "checkpoints" / "raft_small_C_T_V2-01064c6d.pth"
    assert weights_path("large").name == "raft_large_C_T_SKHT_V2-ff5fadd5.pth"


def test_flow_is_the_networks(hub, random_weights):
    torch.save(random_weights, hub)
    data = images(3, (128, 136))
    flow = raft_flow(data[:-1], data[1:], params=SMALL)
    network = raft_small(weights=None, progress=False).eval()
    network.load_state_dict(random_weights)
    batch = torch.from_numpy(data).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = network(batch[:-1], batch[1:], num_flow_updates=2)[-1].numpy()
    assert np.abs(expected).max() > 0.01
    assert np.allclose(flow, expected, atol=1e-3)


def test_small_odd_frames_through_optical_flow(hub, random_weights):
    torch.save(random_weights, hub)
    frames = Frames(images(), np.arange(2.0), "noise")
    flow = optical_flow(frames, method="raft", params=SMALL)
    assert flow.data.shape == (1, 2, 40, 52)
    assert np.isfinite(flow.data).all()
    assert (flow.method, flow.source) == ("raft", "noise")


def test_missing_weights_say_which_file_goes_where(hub):
    with pytest.raises(WeightsError, match="put that file there by hand") as caught:
        raft_flow(images(), images(), params=SMALL)
    assert str(hub) in str(caught.value)
    assert "https://download.pytorch.org/models/raft_small_C_T_V2-01064c6d.pth" in str(caught.value)
    assert "no route to host" in str(caught.value)


def test_weights_are_fetched_and_checked_by_their_checksum(hub, random_weights, monkeypatch):
    def fetch(url, path, *, hash_prefix, progress):
        assert url.endswith("/raft_small_C_T_V2-01064c6d.pth")
        assert (hash_prefix, progress) == ("01064c6d", False)
        torch.save(random_weights, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert raft_flow(images(1), images(1), params=SMALL).shape == (1, 2, 40, 52)
    assert hub.is_file()


@pytest.mark.parametrize("content", ["other network", "text", "empty"])
def test_files_that_are_not_the_weights(hub, content):
    if content == "other network":
        torch.save({"fc.weight": torch.zeros(2, 2)}, hub)
    else:
        hub.write_bytes(b"<html>not found</html>" if content == "text" else b"")
    with pytest.raises(WeightsError, match="does not hold the weights of RAFT small") as caught:
        raft_flow(images(), images(), params=SMALL)
    assert str(hub) in str(caught.value)
