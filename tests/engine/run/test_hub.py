"""Runs on the Hub: pushed to and loaded from a folder that stands in for it."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from tests.cli.command import dualstream, succeed
from tests.engine.run.folder_hub import FolderHub, hub_in
from tests.engine.tiny import changed, tiny_recipe, untrained_pair, untrained_run

from dualstream.engine.infer.predictor import predict
from dualstream.engine.run.checkpoint import load_checkpoint, starting_weights
from dualstream.engine.run.hub import HubAddress, hub_address, local_run
from dualstream.engine.run.info import read_run, save_metrics
from dualstream.engine.run.push import push_to_hub
from dualstream.errors import CheckpointError, InputError
from dualstream.scores import Fusion

http: Any = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""The library that huggingface_hub speaks HTTP with; its name differs between versions."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHub:
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "cache"))
    return hub_in(tmp_path / "hub", monkeypatch)


@pytest.fixture
def run(tiny_data: Path, tmp_path: Path) -> Path:
    """A run of flow with metrics, and files that must not travel."""
    folder = untrained_run(tiny_recipe("flow"), tiny_data, tmp_path / "mine")
    save_metrics(folder, {"epochs": 3, "train_top1": 0.5})
    test = {"videos": 4, "failed": 0, "top1": 0.75, "top5": None, "mean_class": 0.6251}
    save_metrics(folder, {"test": test})
    torch.save({"optimizer": {}}, folder / "trainer.ckpt")
    (folder / "scores.npz").write_bytes(b"")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").touch()
    return folder


def response(status: int) -> Any:
    return http.Response(status, request=http.Request("GET", "https://huggingface.co/x"))


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_run_comes_back(hub: FolderHub, run: Path, tiny_data: Path) -> None:
    page = push_to_hub(run, "me/walk-run")
    assert page == "https://huggingface.co/me/walk-run"
    assert hub.made == [{"repo_id": "me/walk-run", "private": False}]
    assert hub.messages[0].startswith("Run mine, dualstream ")
    assert files(hub.root / "me/walk-run") == [
        "README.md",
        "classes.txt",
        "metrics.json",
        "model.safetensors",
        "recipe.yaml",
        "run.json",
    ]
    ours, theirs = load_checkpoint(run), load_checkpoint("hf://me/walk-run")
    assert theirs.classes == ours.classes == ("right", "down")
    assert theirs.recipe == ours.recipe
    for name, value in ours.model.state_dict().items():
        assert torch.equal(theirs.model.state_dict()[name], value)
    video = tiny_data / "videos/right/right_4.mp4"
    got, expected = predict(video, "hf://me/walk-run"), predict(video, run)
    np.testing.assert_array_equal(got.probabilities, expected.probabilities)
    assert list(got.streams) == ["walk-run"]


def test_no_place_of_this_machine_travels(hub: FolderHub, run: Path, tmp_path: Path) -> None:
    push_to_hub(run, "me/a")
    told = json.loads((hub.root / "me/a/run.json").read_text())
    info = read_run(run)[2]
    assert told["manifest"] == Path(info.manifest).name
    assert told["flow"]["flow"]["store"] == "flow"
    assert told["manifest_sha256"] == info.manifest_sha256
    everything = b"".join(p.read_bytes() for p in (hub.root / "me/a").iterdir())
    assert str(tmp_path).encode() not in everything
    assert info.manifest.encode() not in everything


def test_the_state_of_the_training_only_where_asked(hub: FolderHub, run: Path) -> None:
    push_to_hub(run, "me/a", private=True, with_trainer=True, message="all of it")
    assert (hub.root / "me/a/trainer.ckpt").is_file()
    assert hub.made[0]["private"]
    assert hub.messages == ["all of it"]
    assert "trainer.ckpt" not in files(local_run("hf://me/a"))  # and it is not fetched


def test_the_card(hub: FolderHub, run: Path) -> None:
    push_to_hub(run, "me/walk", license="cc-by-4.0")
    card = (hub.root / "me/walk/README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    facts = yaml.safe_load(metadata)
    assert facts["library_name"] == "dualstream"
    assert facts["pipeline_tag"] == "video-classification"
    assert facts["license"] == "cc-by-4.0"
    (result,) = facts["model-index"][0]["results"]
    assert [(m["name"], m["value"]) for m in result["metrics"]] == [
        ("top-1", 0.75),
        ("mean class", 0.6251),
    ]
    assert "\n# tiny\n" in text
    assert "Recognises 2 classes of action in video." in text
    assert "Classes: right, down." in text
    assert "$ dualstream predict VIDEO --checkpoint hf://me/walk\n" in text
    assert "- network: `tsn` (backbone test_resnet, dropout 0.5)" in text
    assert "- input `flow`: flow, 3 of every 1. step, 32 px of 48, tvl1-fast, bound 20 px" in text
    assert "| test videos | 75.0 |  | 62.5 | 4 |" in text


@pytest.mark.slow
def test_several_streams(hub: FolderHub, tiny_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "both"
    untrained_pair(tiny_data, root, Fusion("weighted", 2, weights=(0.2, 0.8)))
    for name in ("rgb", "flow"):
        untrained_run(tiny_recipe(name), tiny_data, root / name / "fold_1")
    push_to_hub(root, "me/both")
    assert files(hub.root / "me/both") == [
        "README.md",
        *(f"flow/{n}" for n in ("classes.txt", "model.safetensors", "recipe.yaml", "run.json")),
        "fusion.json",
        "pair.yaml",
        *(f"rgb/{n}" for n in ("classes.txt", "model.safetensors", "recipe.yaml", "run.json")),
    ]
    card = (hub.root / "me/both/README.md").read_text()
    assert "## Stream rgb" in card
    assert 'result = ds.predict("a.mp4", "hf://me/both")' in card
    video = tiny_data / "videos/right/right_4.mp4"
    printed = json.loads(succeed("predict", video, "--checkpoint", "hf://me/both", "--json"))[
        "videos"
    ][0]
    assert list(printed["streams"]) == ["rgb", "flow"]
    expected = predict(video, [root / "rgb", root / "flow"], weights=[0.2, 0.8])
    got = predict(video, "hf://me/both")
    np.testing.assert_array_equal(got.probabilities, expected.probabilities)
    rgb = predict(video, "hf://me/both/rgb")
    np.testing.assert_array_equal(rgb.probabilities, expected.streams["rgb"])
    with pytest.raises(CheckpointError, match="holds a run for each of several streams"):
        load_checkpoint("hf://me/both")


def test_a_network_starts_from_the_hub(hub: FolderHub, run: Path) -> None:
    push_to_hub(run, "me/a")
    recipe = changed(tiny_recipe("flow"), model__weights="hf://me/a")
    (found,) = starting_weights(recipe).values()
    assert isinstance(found, Path)
    assert load_file(found / "model.safetensors").keys()


def test_without_a_network_what_is_here_serves(hub: FolderHub, run: Path) -> None:
    push_to_hub(run, "me/a")
    load_checkpoint("hf://me/a")
    hub.failing = LocalEntryNotFoundError("no connection")
    assert load_checkpoint("hf://me/a").classes == ("right", "down")
    with pytest.raises(CheckpointError, match="the Hub is not reached, and it is not in the cache"):
        load_checkpoint("hf://me/other")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError("404", response=response(404)), "there is no such repository, or"),
        (RepositoryNotFoundError("401", response=response(401)), "there is no such repository, or"),
        (GatedRepoError("403", response=response(403)), "does not let this account"),
        (RevisionNotFoundError("404", response=response(404)), "has no such revision"),
        (HfHubHTTPError("500 Server", response=response(500)), "HfHubHTTPError, 500 Server"),
        (http.ConnectError("refused"), "ConnectError, refused. Check the connection"),
    ],
)
def test_what_the_hub_says_becomes_one_error(
    error: Exception, message: str, hub: FolderHub
) -> None:
    hub.failing = error
    with pytest.raises(CheckpointError, match=rf"hf://me/a@v2 cannot be fetched: .*{message}"):
        load_checkpoint("hf://me/a@v2")


def test_a_repository_that_may_not_be_written(hub: FolderHub, run: Path) -> None:
    hub.failing = HfHubHTTPError("403 Forbidden", response=response(403))
    with pytest.raises(CheckpointError, match=r"you/a cannot be pushed: .*hf auth login"):
        push_to_hub(run, "you/a")
    done = dualstream("push", run, "you/a", "--json")
    assert done.code == 1
    assert "you/a cannot be pushed" in json.loads(done.stdout)["error"]


def test_what_is_no_run(hub: FolderHub, run: Path, tmp_path: Path) -> None:
    (hub.root / "me/texts").mkdir(parents=True)
    (hub.root / "me/texts/README.md").touch()
    with pytest.raises(CheckpointError, match=r"hf://me/texts holds no run: neither recipe\.yaml"):
        load_checkpoint("hf://me/texts")
    with pytest.raises(CheckpointError, match=r"is not a run folder: recipe\.yaml is missing"):
        push_to_hub(tmp_path / "nothing", "me/a")
    with pytest.raises(InputError, match="A repository of the Hub is OWNER/NAME, got 'a'"):
        push_to_hub(run, "a")
    torch.save({}, run / "model.safetensors")  # a pickle under that name
    with pytest.raises(CheckpointError, match="is broken"):
        push_to_hub(run, "me/a")
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights yet"):
        push_to_hub(run, "me/a")
    assert not hub.made


def test_a_head_goes_with_its_run(hub: FolderHub, run: Path) -> None:
    info = json.loads((run / "run.json").read_text()) | {
        "heads": {"one": 2, "two": 2},
        "head": "one",
    }
    head = run / "heads" / "two"
    head.mkdir(parents=True)
    for name in ("recipe.yaml", "classes.txt"):
        shutil.copy(run / name, head / name)
    (run / "run.json").write_text(json.dumps(info))
    (head / "run.json").write_text(json.dumps(info | {"head": "two"}))
    weights = load_file(run / "model.safetensors")
    doubled = {
        name: torch.cat((value, value + 1)) if "classifier" in name else value
        for name, value in weights.items()
    }
    save_file(doubled, run / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"is a head of .*mine; push that folder"):
        push_to_hub(head, "me/a")
    push_to_hub(run, "me/a")
    got, expected = load_checkpoint("hf://me/a/heads/two"), load_checkpoint(head)
    for name, value in expected.model.state_dict().items():
        assert torch.equal(got.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/a", HubAddress("me/a")),
        ("hf://me/a.b-c_d/", HubAddress("me/a.b-c_d")),
        ("hf://me/a@v1.0", HubAddress("me/a", "v1.0")),
        ("hf://me/a/rgb", HubAddress("me/a", None, "rgb")),
        ("hf://me/a@main/heads/x", HubAddress("me/a", "main", "heads/x")),
        ("runs/a", None),
        ("hf/me/a", None),
    ],
)
def test_addresses(text: str, address: HubAddress | None) -> None:
    assert hub_address(text) == address
    assert hub_address(Path(text)) == address  # which makes one slash of two
    if address is not None:
        assert str(address) == text.rstrip("/")


@pytest.mark.parametrize("text", ["hf://a", "hf://a/", "hf://a/b@", "hf://a/b/../c", "hf:///a/b"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="is no address of a run on the Hub"):
        hub_address(text)


def test_the_command(hub: FolderHub, run: Path) -> None:
    printed = json.loads(succeed("push", run, "me/a", "--license", "mit", "--json"))
    assert printed == {
        "repository": "me/a",
        "page": "https://huggingface.co/me/a",
        "checkpoint": "hf://me/a",
    }
    assert succeed("push", run, "me/a").splitlines()[-1].endswith("--checkpoint hf://me/a")


def test_the_fake_is_called_like_the_real_one() -> None:
    """Names of arguments, which a new version of huggingface_hub may change."""
    import inspect

    real = inspect.signature(huggingface_hub.snapshot_download).parameters
    wanted = {"revision", "local_dir", "allow_patterns", "library_name", "library_version"}
    assert wanted <= real.keys()
    assert {"private", "exist_ok"} <= inspect.signature(
        huggingface_hub.HfApi.create_repo
    ).parameters.keys()
    commit = inspect.signature(huggingface_hub.HfApi.create_commit).parameters
    assert list(commit)[1:3] == ["repo_id", "operations"]
    assert "commit_message" in commit
