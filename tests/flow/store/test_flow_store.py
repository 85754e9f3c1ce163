"""Flow files and stores."""

import errno
import json
import os
import sys
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dualstream.errors import FlowStoreError, InputError, ShapeError
from dualstream.flow import (
    FlowFile,
    FlowFolder,
    FlowMeta,
    FlowStore,
    StoredFlow,
    pixels,
    quantize,
    write_folder,
)
from dualstream.flow.store.fields import through_jpeg

SHA = "ab" * 32


def smooth_fields(count: int, size=(48, 64)) -> np.ndarray:
    """(count, 2, H, W) bytes; the mean of field i is near 100 + 5 i in x and 150 + 5 i in y."""
    rng = np.random.default_rng(0)
    fields = np.empty((count, 2, *size), np.float32)
    for i in range(count):
        for channel, level in enumerate((100, 150)):
            noise = rng.normal(size=size).astype(np.float32)
            fields[i, channel] = cv2.GaussianBlur(noise, (0, 0), 4) * 20 + level + 5 * i
    return fields.astype(np.uint8)


def meta(**changes) -> FlowMeta:
    values = {"method": "dis", "params": {"preset": "medium"}, "fps": 25.0, "source": "c/a.mp4"}
    return FlowMeta(**{**values, "source_sha256": SHA, "version": "0.1.0", **changes})


def write_format_1(path, fields, facts: FlowMeta) -> None:
    """A flow file as dualstream 0.1 wrote it: two images a field."""
    path.parent.mkdir(parents=True)
    height, width = fields.shape[2:]
    facts = replace(facts, format=1, height=height, width=width, num_fields=len(fields))
    with zipfile.ZipFile(path, "w") as archive:
        for i, field in enumerate(fields):
            for plane, image in zip("xy", field, strict=True):
                quality = (cv2.IMWRITE_JPEG_QUALITY, facts.quality)
                data = cv2.imencode(".jpg", image, quality)[1].tobytes()
                archive.writestr(zipfile.ZipInfo(f"flow_{plane}_{i:05d}.jpg"), data)
        archive.writestr(zipfile.ZipInfo("meta.json"), facts.to_json())


@pytest.fixture(params=(1, 2))
def number(request):
    """Format of the store."""
    return request.param


@pytest.fixture
def store(tmp_path, number):
    """Store with one video `c/a.mp4` of 7 fields."""
    store = FlowStore(tmp_path / "flow")
    fields = smooth_fields(7)
    if number == 1:
        write_format_1(store.path("c/a.mp4"), fields, meta())
    else:
        store.write("c/a.mp4", [fields[:3], fields[3:]], meta())
    return store


def image_of(number, index) -> str:
    """Name of the last image of a field."""
    return f"flow_y_{index:05d}.jpg" if number == 1 else f"flow_{index:05d}.jpg"


def test_members_are_those_of_the_format(store, number):
    with zipfile.ZipFile(store.root / "c" / "a.mp4.zip") as archive:
        infos = archive.infolist()
        facts = json.loads(archive.read("meta.json"))
        data = archive.read(image_of(number, 2))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), -1)
    names = [f"flow_{i:05d}.jpg" for i in range(7)]
    if number == 1:
        names = [f"flow_{plane}_{i:05d}.jpg" for i in range(7) for plane in "xy"]
    assert [info.filename for info in infos] == [*names, "meta.json"]
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert image.shape == ((48, 64) if number == 1 else (96, 64))
    assert next(iter(facts)) == "format"
    assert facts == {
        "format": f"dualstream flow {number}",
        "method": "dis",
        "params": {"preset": "medium"},
        "direction": "forward",
        "bound_px": 20.0,
        "step": 1,
        "short_side": None,
        "quality": 95,
        "height": 48,
        "width": 64,
        "num_fields": 7,
        "fps": 25.0,
        "source": "c/a.mp4",
        "source_sha256": SHA,
        "version": "0.1.0",
    }


@pytest.mark.parametrize("size", [(48, 64), (45, 61), (8, 9), (1, 1), (17, 5)])
def test_both_formats_hold_the_same_bytes(tmp_path, size):
    fields = np.random.default_rng(3).integers(0, 256, (3, 2, *size), np.uint8)
    old, new = FlowStore(tmp_path / "old"), FlowStore(tmp_path / "new")
    write_format_1(old.path("a.mp4"), fields, meta())
    new.write("a.mp4", [fields], meta())
    with old.open("a.mp4") as first, new.open("a.mp4") as second:
        assert np.array_equal(first.read(range(3)), second.read(range(3)))
        assert np.array_equal(second.read(range(3)), through_jpeg(fields))
    assert new.path("a.mp4").stat().st_size < old.path("a.mp4").stat().st_size


def test_fields_come_back(store, number):
    with store.open("c/a.mp4", source_sha256=SHA) as file:
        assert file.num_fields == 7
        assert file.meta == meta(height=48, width=64, num_fields=7, format=number)
        data = file.read(range(7))
    assert data.shape == (7, 2, 48, 64)
    assert data.dtype == np.uint8
    assert np.abs(data.astype(int) - smooth_fields(7)).max() <= 3  # JPEG at quality 95


def test_any_order_and_repeats(store):
    with store.open("c/a.mp4") as file:
        whole = file.read(range(7))
        assert np.array_equal(file.read([6, 0, 6, 6, 3]), whole[[6, 0, 6, 6, 3]])
        assert file.read([]).shape == (0, 2, 48, 64)


def test_no_motion_survives_the_jpeg_exactly(tmp_path):
    store = FlowStore(tmp_path)
    store.write("still.mp4", [quantize(np.zeros((2, 2, 50, 70), np.float32))], meta())
    with store.open("still.mp4") as file:
        assert (file.read([0, 1]) == 128).all()


def test_the_same_flow_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        FlowStore(tmp_path / name).write("v.mp4", [smooth_fields(2)], meta())
    files = [(tmp_path / name / "v.mp4.zip").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


@pytest.mark.parametrize("index", [-1, 7, 100])
def test_fields_that_are_not_there(store, index):
    with (
        store.open("c/a.mp4") as file,
        pytest.raises(InputError, match=f"7 flow fields, there is no field {index}"),
    ):
        file.read([0, index])


@pytest.mark.parametrize("name", ["", "/etc/a.mp4", "../a.mp4", "c/../../a.mp4"])
def test_names_that_lead_out_of_the_store_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="relative path"):
        FlowStore(tmp_path).path(name)


def test_paths_mirror_names(tmp_path):
    store = FlowStore(tmp_path)
    assert store.path("brush_hair/a.b.mp4") == tmp_path / "brush_hair" / "a.b.mp4.zip"
    assert store.folder_path("brush_hair/a.b.mp4") == tmp_path / "brush_hair" / "a.b"


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FlowStoreError, match=r"no\.mp4\.zip does not exist.*`dualstream flow`"):
        FlowStore(tmp_path).open("no.mp4")


def test_flow_of_another_video_is_refused(store):
    with pytest.raises(FlowStoreError, match=r"a\.mp4\.zip holds the flow of another video"):
        store.open("c/a.mp4", source_sha256="cd" * 32)


def broken_copies(path, number) -> dict[str, bytes]:
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[whole.index(image_of(number, 3).encode()) + 300] ^= 0xFF
    facts = bytearray(whole)
    facts[whole.index(b'"method"') + 2] ^= 0xFF
    return {
        "empty": b"",
        "text": b"not a zip",
        "truncated": whole[: len(whole) // 2],
        "end cut off": whole[:-30],
        "image": bytes(middle),
        "meta": bytes(facts),
    }


@pytest.mark.parametrize("case", ["empty", "text", "truncated", "end cut off", "meta"])
def test_broken_files_are_found_when_opened(store, number, case):
    path = store.path("c/a.mp4")
    path.write_bytes(broken_copies(path, number)[case])
    with pytest.raises(FlowStoreError, match=r"a\.mp4\.zip is broken or no flow file"):
        FlowFile.open(path)
    assert not store.is_complete("c/a.mp4", meta())


def test_a_broken_image_is_found_by_its_checksum(store, number):
    path = store.path("c/a.mp4")
    path.write_bytes(broken_copies(path, number)["image"])
    assert not store.is_complete("c/a.mp4", meta())
    said = rf"a\.mp4\.zip is broken.* the checksum of {image_of(number, 3)} is wrong"
    with FlowFile.open(path) as file:
        assert file.read([0, 1, 2, 4, 5, 6]).shape[0] == 6
        with pytest.raises(FlowStoreError, match=said):
            file.read([3])
        with pytest.raises(FlowStoreError, match=said):
            file.verify()


def rewrite(path, change) -> None:
    """Write the archive anew with `change(members)` applied."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def with_fact(name, value):
    def change(members):
        members["meta.json"] = json.dumps({**json.loads(members["meta.json"]), name: value})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members.pop("meta.json"), "meta.json"),
        (lambda members: members.popitem(), "meta.json"),
        (lambda members: members.update({"other.jpg": b""}), "images are there, meta.json calls"),
        (lambda members: members.update({"meta.json": "{"}), "not JSON"),
        (lambda members: members.update({"meta.json": "[1]"}), "does not say"),
        (with_fact("format", "dualstream flow 9"), "does not say 'dualstream flow 1' or"),
        (with_fact("num_fields", 0), "num_fields 0"),
        (with_fact("height", "48"), "height '48'"),
        (with_fact("format", ["dualstream flow 2"]), "does not say"),
        (with_fact("method", 5), "method 5"),
        (with_fact("params", None), "params None"),
        (with_fact("fps", "25"), "fps '25'"),
        (lambda members: members.update({"meta.json": "[" * 100_000}), "not JSON"),
        (with_fact("width", 10**9), "width 1000000000"),
        (with_fact("bound_px", 0), "bound_px must be above 0"),
        (with_fact("bound_px", "20"), "cannot be used"),
        (with_fact("direction", "up"), "Unknown direction 'up'"),
    ],
)
def test_foreign_files_are_named(store, change, said):
    path = store.path("c/a.mp4")
    rewrite(path, change)
    with pytest.raises(FlowStoreError, match=said) as caught:
        store.open("c/a.mp4")
    assert "a.mp4.zip" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a", "1.jpg is not an image"),
        (b"", "1.jpg is not an image"),
        (cv2.imencode(".jpg", np.zeros((5, 9), np.uint8))[1].tobytes(), "1.jpg is 9x5 px, not 64x"),
    ],
)
def test_images_that_are_none_or_of_another_size(store, number, data, said):
    path = store.path("c/a.mp4")
    rewrite(path, lambda members: members.update({image_of(number, 1): data}))
    with FlowFile.open(path) as file, pytest.raises(FlowStoreError, match=said):
        file.read([1])


def test_a_file_that_another_program_wrote_anew(store, number):
    """Names in another order, dates, a comment, extra fields: what zipfile reads is read."""
    path = store.path("c/a.mp4")
    with store.open("c/a.mp4") as file:
        expected = file.read(range(7))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"packed again"
        for name in sorted(members, reverse=True):
            info = zipfile.ZipInfo(name, (2026, 11, 28, 12, 0, 0))
            info.extra = b"\xfe\xca\x02\x00ab"
            archive.writestr(info, members[name])
    with store.open("c/a.mp4") as file:
        assert np.array_equal(file.read(range(7)), expected)
        file.verify()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(FlowStoreError, match="its members are compressed"):
        store.open("c/a.mp4")


def test_a_directory_for_more_members_than_zip_once_had(tmp_path, store, number, monkeypatch):
    """Above 65,535 members zipfile writes records that only zipfile reads here."""
    with store.open("c/a.mp4") as file:
        expected = file.read(range(7))
    path = store.path("c/a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr("zipfile.ZIP_FILECOUNT_LIMIT", 5)
        rewrite(path, lambda members: None)
    assert b"PK\6\6" in path.read_bytes()
    with FlowFile.open(path) as file:
        assert np.array_equal(file.read(range(7)), expected)


def test_missing_facts_are_listed(store):
    path = store.path("c/a.mp4")

    def without_bound(members):
        facts = json.loads(members["meta.json"])
        del facts["bound_px"]
        members["meta.json"] = json.dumps(facts)

    rewrite(path, without_bound)
    with pytest.raises(FlowStoreError, match="lacks bound_px"):
        FlowFile.open(path)


@pytest.mark.parametrize(
    ("changes", "complete"),
    [
        ({}, True),
        ({"source_sha256": None}, True),
        ({"version": "9.9"}, True),
        ({"source_sha256": "cd" * 32}, False),
        ({"method": "tvl1"}, False),
        ({"params": {"preset": "fast"}}, False),
        ({"direction": "backward"}, False),
        ({"bound_px": 10.0}, False),
        ({"short_side": 128}, False),
        ({"quality": 90}, False),
        ({"step": 2}, False),
    ],
)
def test_complete_means_whole_and_made_in_the_same_way(store, changes, complete):
    assert store.is_complete("c/a.mp4", meta(**changes)) is complete
    assert not store.is_complete("c/b.mp4", meta(**changes))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([np.zeros((1, 3, 4, 4), np.uint8)], r"\(1, 3, 4, 4\)"),
        ([np.zeros((2, 4, 4), np.uint8)], r"\(2, 4, 4\)"),
        ([np.zeros((1, 2, 4, 4), np.uint8), np.zeros((1, 2, 4, 5), np.uint8)], r"\(n, 2, 4, 4\)"),
        ([np.zeros((1, 2, 4, 4), np.float32)], "float32"),
    ],
)
def test_other_shapes_are_refused_and_nothing_is_left(tmp_path, fields, said):
    with pytest.raises(ShapeError, match=said):
        FlowStore(tmp_path).write("a.mp4", fields, meta())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fields", [[], [np.zeros((0, 2, 4, 4), np.uint8)]])
def test_no_fields_are_refused(tmp_path, fields):
    with pytest.raises(FlowStoreError, match="no flow field to write"):
        FlowStore(tmp_path).write("a.mp4", fields, meta())
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_source_leaves_the_old_file(store):
    before = store.path("c/a.mp4").read_bytes()

    def fields():
        yield smooth_fields(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("c/a.mp4", fields(), meta())
    assert store.path("c/a.mp4").read_bytes() == before
    assert [path.name for path in (store.root / "c").iterdir()] == ["a.mp4.zip"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes there")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FlowStoreError, match=r"a\.mp4\.zip cannot be written: File too large"):
            FlowStore(tmp_path).write("a.mp4", [smooth_fields(20)], meta())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_last_moment(store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = store.path("c/a.mp4").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FlowStoreError, match="No space left on device"):
        store.write("c/a.mp4", [smooth_fields(2)], meta())
    assert store.path("c/a.mp4").read_bytes() == before
    assert len(list((store.root / "c").iterdir())) == 1


def test_image_folders_are_read_where_there_is_no_flow_file(store):
    flow = np.zeros((3, 2, 20, 24), np.float32)
    flow[:, 0] = 4
    write_folder(store.root / "c" / "b", [flow], FlowMeta(method="dis"))
    with store.open("c/b.mp4") as folder:
        assert isinstance(folder, FlowFolder)
        assert folder.read([2])[0, 0, 0, 0] == 153  # (4 + 20) * 255 / 40
    write_folder(store.root / "c" / "a", [flow], FlowMeta(method="dis"))
    with store.open("c/a.mp4") as file:
        assert isinstance(file, FlowFile)


def test_stored_flow_is_a_flow_source(store):
    back = 255 - smooth_fields(7)
    facts = meta(direction="backward")
    other = FlowStore(store.root.with_name("flow_backward"))
    other.write("c/a.mp4", [back], facts)
    with store.open("c/a.mp4") as there, other.open("c/a.mp4") as back_again:
        flow = StoredFlow(there, back_again)
        assert (flow.num_fields, flow.size) == (7, (48, 64))
        forward = flow.read([5, 0])
        assert (forward.method, forward.source, forward.bound_px) == ("dis", "c/a.mp4", 20.0)
        assert np.array_equal(forward.data, flow.forward.read([5, 0]))
        backward = flow.read([5, 0], direction="backward")
        assert np.abs(backward.data.astype(int) - back[[5, 0]]).max() <= 3
    with (
        store.open("c/a.mp4") as there,
        pytest.raises(InputError, match=r"forward flow only.*--direction both"),
    ):
        StoredFlow(there).read([0], direction="backward")
    with store.open("c/a.mp4") as there, other.open("c/a.mp4") as back_again:
        part = StoredFlow(there, back_again, fields=range(2, 6))
        assert part.num_fields == 4
        assert np.array_equal(part.read([3, 0]).data, there.read([5, 2]))
        expected = back_again.read([4])
        assert np.array_equal(part.read([2], direction="backward").data, expected)
        with pytest.raises(InputError, match="has 4 flow fields, there is no field 4"):
            part.read([4])
    other.write("c/a.mp4", [back[:5]], facts)
    with (
        store.open("c/a.mp4") as first,
        other.open("c/a.mp4") as second,
        pytest.raises(FlowStoreError, match=r"num_fields 5, the forward flow.* has 7"),
    ):
        StoredFlow(first, second)


@pytest.mark.parametrize(("quality", "mean_px", "most_px"), [(95, 0.09, 0.8), (80, 0.2, 2.5)])
def test_error_of_storing_flow(tmp_path, quality, mean_px, most_px):
    """Smooth flow of up to 15 px: half a step of the bytes is .08 px, JPEG adds little."""
    y, x = np.mgrid[:60, :90].astype(np.float32)
    field = np.stack((12 * np.sin(x / 9) + 3 * np.cos(y / 7), 14 * np.cos((x + y) / 11)))
    flow = np.stack((field, -field)).astype(np.float32)
    store = FlowStore(tmp_path)
    store.write("a.mp4", [quantize(flow)], meta(quality=quality))
    with store.open("a.mp4") as file:
        error = np.abs(pixels(StoredFlow(file).read(range(2))) - flow)
    assert error.mean() < mean_px
    assert error.max() < most_px
