"""Improved dense trajectories: followed points and the histograms around them."""

from dualstream.flow.trajectories.arrays import DESCRIPTORS as DESCRIPTORS
from dualstream.flow.trajectories.arrays import Trajectories as Trajectories
from dualstream.flow.trajectories.arrays import read_trajectories as read_trajectories
from dualstream.flow.trajectories.arrays import write_trajectories as write_trajectories
from dualstream.flow.trajectories.store import TrajectoryJob as TrajectoryJob
from dualstream.flow.trajectories.store import TrajectoryOutcome as TrajectoryOutcome
from dualstream.flow.trajectories.store import TrajectoryStore as TrajectoryStore
from dualstream.flow.trajectories.track import TrajectoryParams as TrajectoryParams
from dualstream.flow.trajectories.track import dense_trajectories as dense_trajectories
from dualstream.flow.trajectories.track import trajectory_runs as trajectory_runs
