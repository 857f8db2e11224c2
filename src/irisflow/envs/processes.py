"""Environments in as many processes as there are cores, each of which steps its share of them.

A message a step and process: on two cores eight environments step 1.5 times as fast as with a process for each, as in
gymnasium's AsyncVectorEnv (benchmarks/README.md). Threads are of no use: the emulator keeps Python's lock while it runs.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, NoReturn

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper
from jaxtyping import Int64

from irisflow.envs.base import Environment
from irisflow.envs.serial import Observations, SerialEnvironments, VectorStep
from irisflow.errors import EnvironmentFailure, IrisflowError

SECONDS_TO_ANSWER = 300.0
Makers = Sequence[Callable[[], Environment]]


class ParallelEnvironments:
    """Environments in processes. One that dies, raises or is silent too long ends all, with EnvironmentFailure."""

    def __init__(
        self,
        makers: Makers,
        *,
        num_processes: int | None = None,
        seconds_to_answer: float = SECONDS_TO_ANSWER,
    ) -> None:
        context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
        assert isinstance(context, ForkServerContext)
        context.set_forkserver_preload(["irisflow.envs.make"])
        self.num_envs, self._timeout = len(makers), seconds_to_answer
        number = min(len(makers), num_processes or len(os.sched_getaffinity(0)))
        self._shares = [share.tolist() for share in np.array_split(np.arange(len(makers)), number)]
        self._connections: list[Connection] = []
        self.processes: list[ForkServerProcess] = []
        for share in self._shares:
            here, there = context.Pipe()
            make: Any = partial(SerialEnvironments, [makers[index] for index in share])
            wrapped = CloudpickleWrapper(make)
            process = context.Process(target=_serve, args=(there, wrapped), daemon=True)
            process.start()
            there.close()  # the process has the only other end: if it dies, reading here fails
            self._connections.append(here)
            self.processes.append(process)
        self.num_actions = int(self._answers()[0])

    def reset(self, seeds: Sequence[int | None]) -> Observations:
        """Return all observations after resetting the environments whose seed is not None."""
        self._ask("reset", [[seeds[index] for index in share] for share in self._shares])
        return np.concatenate(self._answers())

    def step(self, actions: Int64[np.ndarray, " envs"]) -> VectorStep:
        """Return what one action in each environment leads to."""
        self._ask("step", [actions[share] for share in self._shares])
        steps = self._answers()
        names = VectorStep.__dataclass_fields__
        return VectorStep(*(np.concatenate([getattr(step, name) for step in steps]) for name in names))

    def close(self) -> None:
        """Close the environments and end their processes."""
        for connection in self._connections:
            connection.close()  # which ends the process that waits at the other end
        for process in self.processes:
            process.join(timeout=5)
            process.kill()
        self._connections = []

    def _ask(self, what: str, shares: Sequence[Any]) -> None:
        try:
            for connection, share in zip(self._connections, shares, strict=True):
                connection.send((what, share))
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _answers(self) -> list[Any]:
        found = []
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
            found.append(answer)
        return found

    def _fail(self, cause: str) -> NoReturn:
        """End all processes and say why."""
        causes = self._kill() or " ".join(cause.split())
        raise EnvironmentFailure(
            f"environment processes: {causes}. Start the command again; it resumes where it can."
        ) from None

    def _kill(self) -> str:
        """End all processes; return which of them had died by themselves, and how."""
        for process in self.processes:
            process.join(timeout=0.2)
        dead = [
            f"number {i} died with exit code {p.exitcode}" for i, p in enumerate(self.processes) if p.exitcode
        ]
        for process in self.processes:
            process.kill()
        self._connections = []
        return ", ".join(dead)


def _serve(connection: Connection, make: Any) -> None:
    """Answer what is asked of some environments until the other end is closed; a fault is the last answer."""
    environments: SerialEnvironments | None = None
    try:
        environments = make.fn()
        connection.send(environments.num_actions)
        while True:
            what, share = connection.recv()
            connection.send(environments.reset(share) if what == "reset" else environments.step(share))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass
    except IrisflowError as error:
        connection.send(error)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
    finally:
        if environments is not None:
            environments.close()
