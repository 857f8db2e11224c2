"""A `python` for a checkout's jobs that has done all slow imports: each job is a fork of it, so that it costs no start.

Snakemake's jobs call `python -m irisflow STAGE ...`. In `bin/` of the folder that `prepare` makes, `python` hands such a
call to this server, which forks and calls the same `irisflow.cli.main` with the same arguments, folder, variables and
outputs; every other call goes to the real interpreter.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

SOCKET = "stages.socket"
IMPORTED = (
    "irisflow.cli", "irisflow.pull", "torch._dynamo", "vector_quantize_pytorch",
    "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert", "peft", "gguf", "lpips", "pandas", "rliable.library", "matplotlib.figure",
)  # fmt: skip
CLIENT = """#!{python} -IS
import json, os, socket, sys

if sys.argv[1:3] != ["-m", "irisflow"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[3:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [1, 2])
    server.sendall(request)
    code = server.recv(1)
sys.exit(code[0] if code else 1)
"""


@contextlib.contextmanager
def warm_python(folder: Path, checkout: Path) -> Iterator[Path]:
    """Yield a Python in `folder` whose jobs are forks of a server on the code of `checkout`."""
    real = prepare(folder)
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([real, __file__, folder / SOCKET], cwd=checkout, env=environment)
    try:
        give_up = time.monotonic() + 300
        while not (folder / SOCKET).exists():
            assert server.poll() is None and time.monotonic() < give_up, "the server of stages did not start"
            time.sleep(0.05)
        yield real
    finally:
        server.terminate()
        server.wait()


def prepare(folder: Path) -> Path:
    """Return the real interpreter of a virtual environment in `folder`, with the client beside it as `python`."""
    (folder / "bin").mkdir(parents=True)
    real = folder / "bin" / "python-real"
    real.symlink_to(Path(sys.executable).resolve())
    (folder / "pyvenv.cfg").write_text(Path(sys.prefix, "pyvenv.cfg").read_text(encoding="utf-8"))
    (folder / "lib").symlink_to(Path(sys.prefix, "lib"))
    client = folder / "bin" / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=str(folder / SOCKET)))
    client.chmod(0o755)
    return real


def serve(address: str) -> None:
    """Fork for each call that comes."""
    for name in IMPORTED:
        import_module(name)
    for path in Path(import_module("irisflow.stages").__path__[0]).glob("[a-z]*.py"):
        import_module(f"irisflow.stages.{path.stem}")
    compose_once()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{address}.new")
        door.listen()
        Path(f"{address}.new").rename(address)
        while True:
            caller, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(caller)
            caller.close()


def compose_once() -> None:
    """Compose a configuration, hash the code and load the kernels, so that not every fork does the same again."""
    params, compositions = import_module("irisflow.params"), import_module("irisflow.compositions")
    choice = params.Choice("smoke", variant="iris")
    for stage in params.STAGE_KEYS:
        compositions.planned_digest(stage, choice, "Catch", 0)
    params.compose(choice)
    import_module("irisflow.kernels.build").library()


def answer(caller: socket.socket) -> None:
    """Do what a caller asks for, tell it the exit code, and end this process."""
    size, outputs, _, _ = socket.recv_fds(caller, 4, 2)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += caller.recv(1 << 16)
    arguments, folder, environment = json.loads(request)
    for output, target in zip(outputs, (1, 2), strict=True):
        os.dup2(output, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["irisflow", *arguments]
    code = 1
    with contextlib.suppress(BaseException):
        try:
            code = import_module("irisflow.cli").main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 2
        except BaseException:
            import_module("traceback").print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(bytes([code]))
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
