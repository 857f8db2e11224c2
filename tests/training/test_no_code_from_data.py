"""Nothing in the package can run code that lies in data."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle", "subprocess.getoutput",
}  # fmt: skip
FORBIDDEN_KEYWORDS = {"allow_pickle", "shell"}  # unless they are literally False


def offences(code: str) -> list[str]:
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
            found += [name for name in [ast.unparse(node.func)] if name in FORBIDDEN_CALLS]
            found += [
                f"{keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg in FORBIDDEN_KEYWORDS and ast.unparse(keyword.value) != "False"
            ]
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_can_run_code_that_lies_in_data(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


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
