"""Files that cannot be used say why, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from tests.deploy.networks import small

from dualstream.deploy.card import KEY
from dualstream.deploy.export import export
from dualstream.deploy.onnx_file import OnnxFile
from dualstream.deploy.runtime import open_exported
from dualstream.deploy.torch_file import CARD_FILE, TorchFile
from dualstream.errors import ExportError


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small("tsn"), tmp_path_factory.mktemp("exported") / "a.onnx").path


def with_card(exported: Path, path: Path, text: str | None) -> Path:
    """A copy of the file with other metadata."""
    model = onnx.load(exported)
    del model.metadata_props[:]
    if text is not None:
        model.metadata_props.add(key=KEY, value=text)
    onnx.save(model, path)
    return path


def card_of(exported: Path) -> dict[str, object]:
    (entry,) = [one for one in onnx.load(exported).metadata_props if one.key == KEY]
    content: dict[str, object] = json.loads(entry.value)
    return content


def test_metadata_that_are_gone_or_cut_off(exported: Path, tmp_path: Path) -> None:
    gone = with_card(exported, tmp_path / "gone.onnx", None)
    with pytest.raises(ExportError, match=r"gone\.onnx does not say what it is.*Export the run"):
        OnnxFile(gone)
    text = json.dumps(card_of(exported))
    cut = with_card(exported, tmp_path / "cut.onnx", text[: len(text) // 2])
    with pytest.raises(ExportError, match=r"cut\.onnx: its metadata are cut off"):
        OnnxFile(cut)


def test_metadata_that_are_no_text(exported: Path, tmp_path: Path) -> None:
    text = json.dumps(card_of(exported))
    path = with_card(exported, tmp_path / "bytes.onnx", text)
    path.write_bytes(path.read_bytes().replace(text[:8].encode(), b"\xff" * 8))
    with pytest.raises(ExportError, match=r"bytes\.onnx: its metadata are no text"):
        OnnxFile(path)
    deep = with_card(exported, tmp_path / "deep.onnx", "[" * 100_000)
    with pytest.raises(ExportError, match=r"deep\.onnx: its metadata are cut off"):
        OnnxFile(deep)


@pytest.mark.parametrize("format", ["dualstream-export-7", None])
def test_another_version_is_named(exported: Path, tmp_path: Path, format: str | None) -> None:
    content = {**card_of(exported), "format": format, "version": "7.1"}
    path = with_card(exported, tmp_path / "other.onnx", json.dumps(content))
    with pytest.raises(ExportError, match=r"of dualstream 7\.1; this version .* reads 'dualstream"):
        OnnxFile(path)


@pytest.mark.parametrize("key", ["networks", "classes", "fusion", "precision", "version"])
def test_metadata_that_lack_something(exported: Path, tmp_path: Path, key: str) -> None:
    content = card_of(exported)
    del content[key]
    path = with_card(exported, tmp_path / "lacking.onnx", json.dumps(content))
    with pytest.raises(ExportError, match=f"its metadata lack '{key}'"):
        OnnxFile(path)


def test_files_from_before_several_labels_are_of_one(exported: Path, tmp_path: Path) -> None:
    content = card_of(exported)
    assert content.pop("labels") == "one"
    assert (
        OnnxFile(with_card(exported, tmp_path / "old.onnx", json.dumps(content))).card.labels
        == "one"
    )
    content["labels"] = "some"
    path = with_card(exported, tmp_path / "some.onnx", json.dumps(content))
    with pytest.raises(ExportError, match=r"its metadata are broken .*Unknown labels 'some'"):
        OnnxFile(path)


def test_metadata_of_another_graph(exported: Path, tmp_path: Path) -> None:
    text = json.dumps(card_of(exported)).replace('"logits": "logits"', '"logits": "rgb_logits"')
    path = with_card(exported, tmp_path / "other.onnx", text)
    with pytest.raises(ExportError, match="has no output 'rgb_logits', which its metadata name"):
        OnnxFile(path)
    text = json.dumps(card_of(exported)).replace('"modality": "rgb"', '"modality": "sound"')
    path = with_card(exported, tmp_path / "broken.onnx", text)
    with pytest.raises(ExportError, match=r"its metadata are broken .*Unknown modality 'sound'"):
        OnnxFile(path)


def test_broken_files(exported: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:10_000])
    with pytest.raises(ExportError, match=r"cut\.onnx cannot be run by ONNX runtime"):
        open_exported(cut)
    with pytest.raises(ExportError, match=r"gone\.onnx: there is no such file"):
        open_exported(tmp_path / "gone.onnx")
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(ExportError, match=r"cut\.pt2 cannot be read by torch"):
        open_exported(cut)
    with pytest.raises(ExportError, match=r"gone\.pt2: there is no such file"):
        open_exported(tmp_path / "gone.pt2")
    with pytest.raises(ExportError, match=r"end in \.onnx or \.pt2"):
        open_exported(tmp_path / "model.safetensors")


def test_a_program_of_others(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    path = tmp_path / "relu.pt2"
    torch.export.save(program, path, extra_files={CARD_FILE: ""})
    with pytest.raises(ExportError, match=r"relu\.pt2 does not say what it is"):
        TorchFile(path)
