"""Jobs of an extraction and their shards."""

import pytest

from dualstream.flow.extract.job import FlowJob, shard_jobs
from dualstream.jobs import Shard


def jobs_of(*frames):
    return [FlowJob(f"{n}.mp4", f"/v/{n}.mp4", num_frames=count) for n, count in enumerate(frames)]


def parts(jobs, count):
    shards = [shard_jobs(jobs, Shard(i, count)) for i in range(1, count + 1)]
    return [[int(job.name[:-4]) for job in shard] for shard in shards]


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        ((4, 5, 9), 2, [[2], [0, 1]]),
        ((None, None, None, None, None), 2, [[0, 2, 4], [1, 3]]),
        ((100, 1, None), 2, [[0, 2], [1]]),  # one unknown length: dealt out in turn
    ],
)
def test_shards(frames, count, expected):
    assert parts(jobs_of(*frames), count) == expected
