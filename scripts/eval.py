"""Scores the agent of this run folder, by the folder's own copy of the code: python ./scripts/eval.py --help"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

RUN = Path(__file__).resolve().parents[1]
PYTHON = RUN / "config/python"


def main() -> int:
    """Run the evaluation with the interpreter that trained the agent, where this one has no torch."""
    if find_spec("torch") is None and PYTHON.is_file():
        python = PYTHON.read_text(encoding="utf-8").strip()
        if Path(python).is_file() and python != sys.executable:
            os.execv(python, [python, __file__, *sys.argv[1:]])
    source = str(RUN / "src")
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = source  # of the processes that step the games
    from irisflow.launch import evaluate_main

    return evaluate_main(RUN, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
