"""Nothing in the package can run code that lies in data."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle", "subprocess.getoutput",
}  # fmt: skip
FORBIDDEN_KEYWORDS = {"allow_pickle", "shell"}  # unless they are literally False


# The one module that may unpickle: in a process of its own, and only as `torch.load(..., weights_only=True)`.
UNPICKLES = SOURCE / "irisflow" / "initialization" / "foreign_child.py"
# The one module that may pickle: `export-checkpoint` writes the format that IRIS reads. Writing runs no code from data.
PICKLES = SOURCE / "irisflow" / "by_hand" / "exchange.py"


def offences(code: str, *, may_unpickle_weights: bool = False) -> list[str]:
    """Return what a module does that could run code from data."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            is_module = (node.module or "").split(".")[0] in FORBIDDEN_MODULES
            found += sorted(names if is_module else names & FORBIDDEN_CALLS)
        elif isinstance(node, ast.Call):
            is_allowed = may_unpickle_weights and _loads_only_weights(node)
            found += [name for name in [ast.unparse(node.func)] if name in FORBIDDEN_CALLS and not is_allowed]
            found += [
                f"{keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg in FORBIDDEN_KEYWORDS and ast.unparse(keyword.value) != "False"
            ]
    return found


def _loads_only_weights(call: ast.Call) -> bool:
    """Return whether a call is `torch.load` with `weights_only=True`, literally."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return (
        ast.unparse(call.func) == "torch.load"
        and keywords.get("weights_only") == "True"
        and None not in keywords
    )


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_can_run_code_that_lies_in_data(path: Path) -> None:
    allowed = ["torch.save"] if path == PICKLES else []
    assert offences(path.read_text(encoding="utf-8"), may_unpickle_weights=path == UNPICKLES) == allowed


def test_one_call_unpickles_weights_and_that_module_is_only_run_as_a_process_of_its_own() -> None:
    assert offences(UNPICKLES.read_text(encoding="utf-8")) == ["torch.load"]
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path != UNPICKLES)
    assert set(re.findall(r"foreign_child\.\w+", code)) == {"foreign_child.__file__"}


@pytest.mark.parametrize(
    "code", ["torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(path, weights_only=flag)",
             "torch.load(path, weights_only=True, **more)", "pickle.loads(data, weights_only=True); import pickle"],
)  # fmt: skip
def test_the_allowance_is_for_weights_only(code: str) -> None:
    assert len(offences(code, may_unpickle_weights=True)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=is_trusted)",
        "yaml.load(text, Loader)",
        "subprocess.run(command, shell=True)",
        "eval(text)",
        "import joblib.memory",
    ],
)
def test_each_of_these_would_be_found(code: str) -> None:
    assert len(offences(code)) == 1
