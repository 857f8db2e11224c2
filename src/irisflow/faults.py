"""Named places at which a test can make a run die, run out of space, be asked to stop, or compute nonsense.

`IRISFLOW_FAULT=NAME:COUNT:ACTION` acts when the place NAME is reached for the COUNT-th time; several are joined by
commas. Without it a place costs one comparison, so it may stand in any loop.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "IRISFLOW_FAULT"
SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "usr1": signal.SIGUSR1,
}
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
ACTIONS = (*SIGNALS, *ERRORS, "nan")


class Plan:
    """What is to happen where, and how often each place was reached. An empty text only counts."""

    def __init__(self, text: str = "") -> None:
        self.actions: dict[tuple[str, int], str] = {}
        self.reached: Counter[str] = Counter()
        for part in text.split(",") if text else []:
            name, count, action = part.split(":")
            if action not in ACTIONS:
                raise ValueError(f"{VARIABLE}={text}: allowed actions: {', '.join(ACTIONS)}")
            self.actions[name, int(count)] = action

    def reach(self, name: str) -> bool:
        """Act if this is the place and the time; return whether a number is to be spoilt here."""
        self.reached[name] += 1
        action = self.actions.get((name, self.reached[name]))
        if action in SIGNALS:
            os.kill(os.getpid(), SIGNALS[action])
        if action in ERRORS:
            raise OSError(ERRORS[action], os.strerror(ERRORS[action]))
        return action == "nan"


_plan: Plan | None = Plan(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def plan(text: str = "") -> Plan:
    """Return the plan that now holds for this process."""
    global _plan
    _plan = Plan(text)
    return _plan


def point(name: str) -> bool:
    """Return whether to spoil a number here: false unless a plan says otherwise. May not return, or raise OSError."""
    return _plan is not None and _plan.reach(name)
