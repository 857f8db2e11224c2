"""Several environments that step together, in this process or in several."""

from functools import partial

from irisflow.envs.make import make_environment
from irisflow.envs.processes import ParallelEnvironments
from irisflow.envs.serial import Environments, SerialEnvironments
from irisflow.schema import Env


def make_environments(settings: Env, num_envs: int, *, parallel: bool) -> Environments:
    """Return `num_envs` equal environments, stepped by a process on each core if `parallel` and there are several."""
    makers = [partial(make_environment, settings)] * num_envs
    if parallel and num_envs > 1:
        return ParallelEnvironments(makers, size=settings.size)
    return SerialEnvironments(makers)
