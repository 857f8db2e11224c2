import os
from pathlib import Path

import numpy as np
import pytest
from checks_data import check_preprocess, check_segments
from safetensors.numpy import load_file, save_file

FOLDER = Path(os.environ.get("IRISFLOW_FIXTURES", Path(__file__).parents[1] / "fixtures"))


def test_resized_frames_are_the_references() -> None:
    check_preprocess(FOLDER)


def test_segments_and_their_padding_are_the_references() -> None:
    check_segments(FOLDER)


@pytest.mark.parametrize("name", ["preprocess", "segments"])
def test_one_changed_number_is_noticed(name: str, tmp_path: Path) -> None:
    check = {"preprocess": check_preprocess, "segments": check_segments}[name]
    tensors = load_file(FOLDER / f"{name}.safetensors")
    (tmp_path / "config.json").write_text((FOLDER / "config.json").read_text())
    rng = np.random.default_rng(0)
    for key in tensors:
        changed = {other: tensor.copy() for other, tensor in tensors.items()}
        flat = changed[key].reshape(-1)
        place = (
            rng.integers(len(flat)) if len(tensors[key]) < 10 else 0
        )  # the only copy of a step is pure input
        if key == "raw_frames":
            changed[key][0, 80:90, 60:70] ^= 128
        else:
            flat[place] = not flat[place] if flat.dtype == np.bool_ else flat[place] + 1
        save_file(changed, tmp_path / f"{name}.safetensors")
        with pytest.raises(AssertionError):
            check(tmp_path)
