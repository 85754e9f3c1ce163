"""Work on many things: in processes of this machine, on a Ray cluster, in parts by a scheduler."""

from dualstream.jobs.cluster import run_on_cluster as run_on_cluster
from dualstream.jobs.processes import keep_freed_memory as keep_freed_memory
from dualstream.jobs.processes import num_threads as num_threads
from dualstream.jobs.processes import run_jobs as run_jobs
from dualstream.jobs.shard import Shard as Shard
