"""Environments in as many processes as there are cores, this one among them, each of which steps its share of them.

A message a step and other process, of a few bytes: actions and frames lie in memory that all see. Gymnasium's
AsyncVectorEnv, with a process for each environment, steps eight on two cores at two thirds of the speed or less
(benchmarks/README.md). Threads are of no use: the emulator keeps Python's lock while it runs.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, NoReturn

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper
from jaxtyping import Int64

from irisflow.envs.base import Environment
from irisflow.envs.serial import Observations, SerialEnvironments, VectorStep
from irisflow.envs.shared import SharedSteps, read_step, write_step
from irisflow.errors import EnvironmentFailure, IrisflowError

SECONDS_TO_ANSWER = 300.0
STEP = "step"
Makers = Sequence[Callable[[], Environment]]


class ParallelEnvironments:
    """Environments of one frame size, the first of them in this process and the others in `processes`.

    An environment that raises, or a process that dies or is silent too long, ends all, with EnvironmentFailure.
    """

    def __init__(
        self,
        makers: Makers,
        *,
        size: int,
        num_processes: int | None = None,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
    ) -> None:
        context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
        assert isinstance(context, ForkServerContext)
        context.set_forkserver_preload(["irisflow.envs.make"])
        self.num_envs, self._timeout = len(makers), seconds_to_answer
        number = min(len(makers), num_processes or len(os.sched_getaffinity(0)))
        ends = [index * len(makers) // number for index in range(number + 1)]
        self._own_share, *self._shares = [slice(first, last) for first, last in pairwise(ends)]
        shared = SharedSteps(len(makers), size, context)
        self._arrays = shared.arrays()
        self._connections: list[Connection] = []
        self.processes: list[ForkServerProcess] = []
        for share in self._shares:
            here, there = context.Pipe()
            wrapped = CloudpickleWrapper(partial(SerialEnvironments, makers[share]))  # type: ignore[type-var]
            process = context.Process(target=_serve, args=(there, wrapped, shared, share), daemon=True)
            process.start()
            there.close()  # the process has the only other end: if it dies, reading here fails
            self._connections.append(here)
            self.processes.append(process)
        with self._ending_all_by_a_fault():
            self._own = SerialEnvironments(makers[self._own_share])
        self.num_actions = self._own.num_actions
        self._answers()

    def reset(self, seeds: Sequence[int | None]) -> Observations:
        """Return all observations after resetting the environments whose seed is not None."""
        self._ask([seeds[share] for share in self._shares])
        with self._ending_all_by_a_fault():
            self._arrays["observations"][self._own_share] = self._own.reset(seeds[self._own_share])
        self._answers()
        return self._arrays["observations"].copy()

    def step(self, actions: Int64[np.ndarray, " envs"]) -> VectorStep:
        """Return what one action in each environment leads to."""
        self._arrays["actions"][:] = actions
        self._ask([STEP] * len(self._shares))
        with self._ending_all_by_a_fault():
            write_step(self._arrays, self._own_share, self._own.step(actions[self._own_share]))
        self._answers()
        return read_step(self._arrays)

    def close(self) -> None:
        """Close the environments and end the other processes."""
        self._own.close()
        for connection in self._connections:
            connection.close()  # which ends the process that waits at the other end
        for process in self.processes:
            process.join(timeout=5)
            process.kill()
        self._connections = []

    def _ask(self, questions: Sequence[Any]) -> None:
        """Tell each other process what to do: the seeds to reset with, or to step."""
        try:
            for connection, question in zip(self._connections, questions, strict=True):
                connection.send(question)
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _answers(self) -> None:
        """Wait until all other processes have done what they were asked."""
        for connection in self._connections:
            try:
                if not connection.poll(self._timeout):
                    self._fail(f"no answer for {self._timeout} seconds")
                answer = connection.recv()
            except (OSError, EOFError) as error:
                self._fail(f"{type(error).__name__}: {error}")
            if isinstance(answer, IrisflowError):
                self._kill()
                raise answer
            if isinstance(answer, str):
                self._fail(answer)

    @contextmanager
    def _ending_all_by_a_fault(self) -> Iterator[None]:
        """End all other processes where an environment of this one raises."""
        try:
            yield
        except IrisflowError:
            self._kill()
            raise
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, cause: str) -> NoReturn:
        """End all other processes and say why."""
        causes = self._kill() or " ".join(cause.split())
        raise EnvironmentFailure(
            f"environment processes: {causes}. Start the command again; it resumes where it can."
        ) from None

    def _kill(self) -> str:
        """End all other processes; return which of them had died by themselves, and how."""
        for process in self.processes:
            process.join(timeout=0.2)
        dead = [
            f"number {number} died with exit code {process.exitcode}"
            for number, process in enumerate(self.processes, 1)
            if process.exitcode
        ]
        for process in self.processes:
            process.kill()
        self._connections = []
        return ", ".join(dead)


def _serve(connection: Connection, make: Any, shared: SharedSteps, share: slice) -> None:
    """Answer what is asked of some environments until the other end is closed; a fault is the last answer."""
    environments: SerialEnvironments | None = None
    try:
        environments, arrays = make.fn(), shared.arrays()
        connection.send(None)
        while True:
            question = connection.recv()
            if question == STEP:
                write_step(arrays, share, environments.step(arrays["actions"][share]))
            else:
                arrays["observations"][share] = environments.reset(question)
            connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass
    except IrisflowError as error:
        connection.send(error)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
    finally:
        if environments is not None:
            environments.close()
