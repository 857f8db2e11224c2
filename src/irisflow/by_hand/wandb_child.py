"""Weights & Biases in a process of its own, so that no network, crash or wait there reaches the training.

Run as a script by `wandb_outlet`. Reads JSON lines on stdin: the settings, then rows, then how the run ended. Writes what
became of it, as JSON lines on stdout. When stdin ends without that, the training was killed.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

SECONDS_TO_CONNECT = 3.0
SECONDS_TO_BEGIN = 20.0
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def main() -> None:
    """Log what comes in until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever Weights & Biases prints goes to its log
    lines = (json.loads(line) for line in sys.stdin)
    settings = next(lines)
    run, state = _begun(settings)
    answers.write(json.dumps({"state": state, "url": run.url if state == "online" else None}) + "\n")
    exit_code = _logged(run, lines)
    run.finish(exit_code=exit_code)
    answers.write(json.dumps({"state": "finished"}) + "\n")


def _begun(settings: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a run of Weights & Biases and whether it is online, offline, or offline because it could not go online."""
    import wandb

    mode = settings["mode"]
    if mode == "online" and not _is_reachable(settings["base_url"]):
        return _run(settings, "offline"), "unreachable"
    if mode == "online":
        try:
            return _run(settings, "online"), "online"
        except wandb.errors.Error as error:
            print(f"online: {error}", file=sys.stderr)
            wandb.teardown()
            return _run(settings, "offline"), "refused"
    return _run(settings, "offline"), "offline"


def _run(settings: Mapping[str, Any], mode: Literal["online", "offline"]) -> Any:
    import wandb

    names = ("project", "entity", "name", "group", "tags", "notes", "id", "config", "dir")
    run = wandb.init(
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=SECONDS_TO_BEGIN,
            finish_timeout=settings["seconds_to_finish"],
            finish_timeout_raises=False,
            x_stats_pid=settings["pid"],
        ),
        **{name: settings[name] for name in names},
    )
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return run


def _logged(run: Any, lines: Iterator[dict[str, Any]]) -> int:
    """Log every row and return the exit code of the training; 1 if it ended without a word."""
    import wandb

    for line in lines:
        if "exit_code" in line:
            return int(line["exit_code"])
        row = dict(line["row"])
        for name, shares in line.get("histograms", {}).items():
            row[name] = wandb.Histogram(np_histogram=(shares, list(range(len(shares) + 1))))
        run.log(row)
    return 1


def _is_reachable(url: str) -> bool:
    """Return whether something answers at an address; true where a proxy stands between, which cannot be asked so."""
    if any(os.environ.get(name) for name in PROXIES):
        return True
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
