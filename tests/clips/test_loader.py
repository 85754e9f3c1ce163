"""Batches of an epoch, and the workers that fill them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.clips.specs import one_stream

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.dataset import ClipDataset, JoinedDataset
from dualstream.clips.loader import EpochBatches, MixedBatches, collate, make_loader
from dualstream.clips.plan import Cropping, Sampling
from dualstream.errors import CorruptVideoError, InputError, ShapeError, SharedMemoryError
from dualstream.types import Clip
from dualstream.video import write_video

SPEC = one_stream("rgb")


@pytest.fixture
def dataset(tmp_path: Path) -> ClipDataset:
    """Eight videos of noise; labels 0, 1, 2, 0, 1, 2, 0, 1."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(8):
        frames = rng.integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
        write_video(tmp_path / f"{i}.mp4", frames, fps=25)
        records.append(VideoRecord(f"{i}.mp4", i % 3, (), 6, 25.0, 64, 48, ""))
    return ClipDataset(
        Manifest(tuple(records), ("a", "b", "c"), tmp_path),
        SPEC,
        sampling=Sampling("random_segments", segments=2),
        cropping=Cropping("random"),
        flip=True,
    )


def make_clip(name: str, label: int, **shapes: tuple[int, ...]) -> Clip:
    data = {m: torch.full(shape, label, dtype=torch.uint8) for m, shape in shapes.items()}
    return Clip(data, torch.tensor(label), (name,))


# ---- EpochBatches ----


def test_batches_in_the_order_of_the_data() -> None:
    batches = EpochBatches(5, batch_size=2, shuffle=False)
    batches.set_epoch(3)
    assert list(batches) == [[(3, 0), (3, 1)], [(3, 2), (3, 3)], [(3, 4)]]
    assert len(batches) == 3


def test_every_sample_comes_once_in_an_order_of_its_epoch() -> None:
    batches = EpochBatches(20, batch_size=6, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        keys = [key for batch in batches for key in batch]
        assert {e for e, _ in keys} == {epoch}
        orders.append([index for _, index in keys])
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    other = EpochBatches(20, batch_size=6, seed=2)
    assert [index for batch in other for _, index in batch] != orders[0]
    assert orders[0] != list(range(20))


def test_drop_last_leaves_out_the_rest() -> None:
    batches = EpochBatches(20, batch_size=6, drop_last=True)
    assert [len(batch) for batch in batches] == [6, 6, 6]
    assert len(batches) == 3


@given(
    num_samples=st.integers(1, 60),
    per_process=st.integers(1, 5),
    world_size=st.integers(1, 4),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_processes_share_the_batches_of_one(
    num_samples: int, per_process: int, world_size: int, shuffle: bool, drop_last: bool
) -> None:
    def make(rank: int, world_size: int) -> EpochBatches:
        return EpochBatches(
            num_samples,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    batch_size = per_process * 12  # a multiple of every world size
    try:
        alone = list(make(0, 1))
        shares = [list(make(rank, world_size)) for rank in range(world_size)]
    except InputError:
        rest = num_samples % batch_size
        assert (drop_last and num_samples < batch_size) or (shuffle and rest % world_size)
        return
    for rank in range(world_size):
        assert len(make(rank, world_size)) == len(shares[rank])
        assert all(shares[rank])
    for b, batch in enumerate(alone):
        parts = [share[b] for share in shares if b < len(share)]
        assert sorted(key for part in parts for key in part) == sorted(batch)


def test_evaluation_over_three_processes_sees_every_sample_once() -> None:
    shares = [
        list(EpochBatches(7, batch_size=3, shuffle=False, rank=rank, world_size=3))
        for rank in range(3)
    ]
    assert shares == [
        [[(0, 0)], [(0, 3)], [(0, 6)]],
        [[(0, 1)], [(0, 4)]],
        [[(0, 2)], [(0, 5)]],
    ]


def test_class_balanced_draws_classes_uniformly() -> None:
    labels = [0] * 900 + [1] * 90 + [7] * 10  # labels need not be consecutive
    batches = EpochBatches(labels, batch_size=100, class_balanced=True)
    counts: Counter[int] = Counter()
    inside: Counter[int] = Counter()
    for epoch in range(6):
        batches.set_epoch(epoch)
        keys = [key for batch in batches for key in batch]
        assert len(keys) == 1000
        assert len(set(keys)) == 1000  # a repeated sample has a key of its own
        counts.update(labels[index % 1000] for _, index in keys)
        inside.update(index % 1000 for _, index in keys)
    # 2000 of each expected, standard deviation 37; 200 of each of the ten, deviation 14
    assert all(abs(counts[label] - 2000) < 150 for label in (0, 1, 7))
    assert all(abs(inside[index] - 200) < 60 for index in range(990, 1000))


def test_class_balanced_repeats_are_counted_up() -> None:
    batches = EpochBatches([0, 1, 1], batch_size=3, class_balanced=True, seed=0)
    seen = set()
    for epoch in range(50):
        batches.set_epoch(epoch)
        [batch] = batches
        indices = [index for _, index in batch]
        for sample in range(3):
            draws = [index for index in indices if index % 3 == sample]
            assert draws == [sample + 3 * r for r in range(len(draws))]
            seen.add(len(draws))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (0, {"batch_size": 1}, "no samples"),
        (5, {"batch_size": 0}, "at least 1"),
        (5, {"batch_size": 1, "seed": -1}, "seed"),
        (5, {"batch_size": 2, "rank": 2, "world_size": 2}, r"rank must lie in 0\.\.1, got 2"),
        (5, {"batch_size": 3, "world_size": 2}, "multiple of world_size"),
        (5, {"batch_size": 2, "class_balanced": True}, "labels"),
        ([0, 1], {"batch_size": 2, "class_balanced": True, "shuffle": False}, "shuffle"),
        (5, {"batch_size": 6, "drop_last": True}, "5 samples are fewer"),
        (5, {"batch_size": 4, "world_size": 2}, "drop_last=True"),
    ],
)
def test_batches_that_cannot_be(labels, options, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        EpochBatches(labels, **options)


def test_epochs_count_from_zero() -> None:
    with pytest.raises(InputError, match="got -1"):
        EpochBatches(5, batch_size=1).set_epoch(-1)


# ---- MixedBatches ----


def test_a_mixed_batch_has_its_samples_of_each_data_set() -> None:
    """7, 3 and 20 samples, 3, 2 and 1 of them in a batch: two batches an epoch."""
    batches = MixedBatches([[0] * 7, [0] * 3, [0] * 20], counts=(3, 2, 1), seed=4)
    assert len(batches) == 2
    taken: list[list[int]] = [[], [], []]
    for epoch in range(30):
        batches.set_epoch(epoch)
        found = list(batches)
        assert found == list(batches)
        assert {e for batch in found for e, _ in batch} == {epoch}
        indices = [[i for _, i in batch] for batch in found]
        for batch in indices:
            # Of the first as they are; of the second again after all three; of the third 1 of 20.
            places = [i % 30 for i in batch]
            assert [place < 7 for place in places] == [True] * 3 + [False] * 3
            assert [7 <= place < 10 for place in places[3:]] == [True, True, False]
        first, second, third = (
            [b[k] for b in indices for k in ks] for ks in ((0, 1, 2), (3, 4), (5,))
        )
        assert len(set(first)) == 6
        assert max(first) < 7
        assert sorted(second[:3]) == [7, 8, 9]
        assert second[3] - 30 in {7, 8, 9}
        assert max(third) < 30
        for kept, now in zip(taken, (first, second, third), strict=True):
            kept += now
    assert len(set(taken[2])) > 15
    assert len({tuple(taken[0][i : i + 6]) for i in range(0, 180, 6)}) > 25
    other = MixedBatches([[0] * 7, [0] * 3, [0] * 20], counts=(3, 2, 1), seed=5)
    batches.set_epoch(0)
    assert list(other) != list(batches)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_mixed_batches(world_size: int) -> None:
    def make(rank: int, world_size: int) -> list[list[tuple[int, int]]]:
        shares = {"counts": (3, 3), "rank": rank, "world_size": world_size}
        return list(MixedBatches([[0, 1] * 5, [0] * 4], class_balanced=True, **shares))

    alone = make(0, 1)
    parts = [make(rank, world_size) for rank in range(world_size)]
    for b, batch in enumerate(alone):
        assert sorted(key for part in parts for key in part[b]) == sorted(batch)
        assert {len(part[b]) for part in parts} == {6 // world_size}


def test_classes_of_a_data_set_are_drawn_alike_in_mixed_batches() -> None:
    labels = [0] * 90 + [1] * 10
    batches = MixedBatches([[0] * 4, labels], counts=(1, 500), class_balanced=True)
    drawn = [index for batch in batches for _, index in batch[1:]]
    assert len(set(drawn)) == len(drawn) == 2000
    rare = sum((index % 104) - 4 >= 90 for index in drawn)
    assert 0.45 < rare / len(drawn) < 0.55


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"counts": (1,)}, "a count for each data set"),
        ({"counts": (1, 0)}, "counts must be at least 1"),
        ({"counts": (1, 2), "world_size": 2}, "A batch of 3 samples cannot be shared equally"),
        ({"counts": (1, 1), "rank": 1}, "rank must lie in"),
    ],
)
def test_mixed_batches_that_cannot_be(options: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        MixedBatches([[0], [0]], **options)


def test_a_loader_of_joined_data_sets(dataset: ClipDataset) -> None:
    """Eight videos of three classes, twice: labels 3 to 5 are those of the second."""
    joined = JoinedDataset([dataset, dataset])
    batches = MixedBatches([dataset.labels] * 2, counts=(2, 1))
    (first, *_) = make_loader(joined, batches, workers=0)
    indices = [index for _, index in next(iter(batches))]
    assert first.label.tolist() == [(i % 8) % 3 + 3 * (i % 16 >= 8) for i in indices]
    assert first.name == tuple(f"{i % 8}.mp4" for i in indices)


# ---- collate ----


def test_collate_joins_samples() -> None:
    shapes = {"rgb": (2, 3, 1, 4, 4), "flow": (2, 2, 5, 4, 4)}
    batch = collate([make_clip("a", 1, **shapes), make_clip("b", 2, **shapes)])
    assert tuple(batch.data["rgb"].shape) == (2, 2, 3, 1, 4, 4)
    assert tuple(batch.data["flow"].shape) == (2, 2, 2, 5, 4, 4)
    assert batch.data["flow"][:, 0, 0, 0, 0, 0].tolist() == [1, 2]
    assert batch.label.tolist() == [1, 2]
    assert batch.name == ("a", "b")
    assert len(batch) == 2


@pytest.mark.parametrize("other", [{"rgb": (3, 3, 1, 4, 4)}, {"flow": (2, 2, 5, 4, 4)}])
def test_collate_names_a_sample_of_another_shape(other: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match=r"^b has rgb .* a of .*batch_size=1"):
        collate([make_clip("a", 0, rgb=(2, 3, 1, 4, 4)), make_clip("b", 0, **other)])


# ---- make_loader ----


def test_workers_fill_the_same_batches_as_this_process(dataset: ClipDataset) -> None:
    """Over two epochs, and an error of a worker arrives as itself, after which others follow."""
    batches = EpochBatches(dataset.labels, batch_size=3, seed=5)
    here = make_loader(dataset, batches, workers=0)
    there = make_loader(dataset, batches, workers=2)
    seen = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        for ours, theirs in zip(here, there, strict=True):
            assert ours.name == theirs.name
            assert torch.equal(ours.label, theirs.label)
            assert torch.equal(ours.data["rgb"], theirs.data["rgb"])
            seen.append(ours)
    assert [len(batch) for batch in seen] == [3, 3, 2] * 2
    assert seen[0].name != seen[3].name

    (dataset.manifest.root / "4.mp4").write_bytes(b"")
    for loader in (here, there):
        iterator = iter(loader)
        names, errors = [], []
        while True:
            try:
                names += next(iterator).name
            except CorruptVideoError as error:
                errors.append(str(error))
            except StopIteration:
                break
        assert len(errors) == 1
        assert "4.mp4" in errors[0]
        assert "Traceback" not in errors[0]
        assert len(names) in (5, 6)  # all but the batch that video 4 is in


def test_iterating_leaves_the_global_random_numbers_alone(dataset: ClipDataset) -> None:
    loader = make_loader(dataset, EpochBatches(8, batch_size=4), workers=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_use_one_thread_each(dataset: ClipDataset) -> None:
    loader = make_loader(dataset, EpochBatches(8, batch_size=4), workers=1)
    threads = cv2.getNumThreads(), torch.get_num_threads()
    try:
        assert loader.worker_init_fn is not None
        loader.worker_init_fn(0)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (1, 1)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


@pytest.mark.parametrize(("batch_size", "world_size", "ahead"), [(4, 1, 2), (8, 1, 1), (8, 2, 2)])
def test_large_batches_are_not_hoarded(
    dataset: ClipDataset, batch_size: int, world_size: int, ahead: int
) -> None:
    large = ClipDataset(
        dataset.manifest,
        one_stream("rgb", num_frames=10, short_side=256, crop_size=224),
        sampling=Sampling("evenly_spaced", segments=10),
        cropping=Cropping("center"),
    )
    assert large.sample_bytes == 10 * 3 * 10 * 224 * 224  # 15 MB
    batches = EpochBatches(8, batch_size=batch_size, world_size=world_size)
    assert make_loader(large, batches, workers=1).prefetch_factor == ahead


def test_length_is_the_number_of_batches(dataset: ClipDataset) -> None:
    assert len(make_loader(dataset, EpochBatches(8, batch_size=3), workers=0)) == 3


def test_negative_workers_are_named(dataset: ClipDataset) -> None:
    with pytest.raises(InputError, match="workers must be at least 0, got -1"):
        make_loader(dataset, EpochBatches(8, batch_size=4), workers=-1)


def test_too_little_shared_memory_is_named(dataset: ClipDataset) -> None:
    class WithoutRoom(ClipDataset):
        def __getitem__(self, key: object) -> Clip:
            raise RuntimeError(
                "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on "
                "device (28)"  # as torch 2.14 says in a worker of a container with 64 MB
            )

    full = WithoutRoom(
        dataset.manifest,
        SPEC,
        sampling=Sampling("random_segments", segments=2),
        cropping=Cropping("random"),
    )
    with pytest.raises(SharedMemoryError, match=r"data\.workers=0"):
        next(iter(make_loader(full, [[(0, 0)]], workers=0)))
