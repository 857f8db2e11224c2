"""Named places at which a test can make a run die, run out of space, be asked to stop, or compute nonsense.

`IRISFLOW_FAULT=NAME:COUNT:ACTION` acts when the place NAME is reached for the COUNT-th time. Without it a place costs
one comparison, so it may stand in any loop.
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


class Plan:
    """What is to happen where. Without an action it only counts: `reached` says how often each place was."""

    def __init__(self, text: str = "") -> None:
        name, count, action = text.split(":") if text else ("", "0", "")
        if action not in (*SIGNALS, *ERRORS, "nan", ""):
            raise ValueError(f"{VARIABLE}={text}: allowed actions: {', '.join([*SIGNALS, *ERRORS, 'nan'])}")
        self.name, self.count, self.action = name, int(count), action
        self.reached: Counter[str] = Counter()

    def reach(self, name: str) -> bool:
        """Act if this is the place and the time; return whether a number is to be spoilt here."""
        self.reached[name] += 1
        if name != self.name or self.reached[name] != self.count:
            return False
        if self.action in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.action])
        if self.action in ERRORS:
            raise OSError(ERRORS[self.action], os.strerror(ERRORS[self.action]))
        return self.action == "nan"


_plan: Plan | None = Plan(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def plan(text: str = "") -> Plan:
    """Return the plan that now holds for this process."""
    global _plan
    _plan = Plan(text)
    return _plan


def point(name: str) -> bool:
    """Return whether to spoil a number here: false unless a plan says otherwise. May not return, or raise OSError."""
    return _plan is not None and _plan.reach(name)
