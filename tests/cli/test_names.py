"""Wrong names, keys and values: one line, an exit code, and nothing written."""

import shutil
from pathlib import Path

import pytest

from irisflow import cli, launch, params
from irisflow.errors import ConfigError
from irisflow.params import Choice
from workspace import edit, irisflow, own_lines, run, snakemake, snapshot

NAMES = {
    "slash": "no/slash", "parent": "../up", "space": "two words", "semicolon": "a;b", "shell": "$(touch x)",
    "newline": "line\nbreak", "dash": "-dash", "look-alike": "\uff30ong", "long": "x" * 300, "empty": "",
}  # fmt: skip
RUN = {"--scale": "smoke", "--game": "Catch", "--variant": "iris", "--seed": "0"}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in an empty folder, which must stay empty."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, code: int) -> str:
    """Return the one line on stderr, after checking that it is one and that nothing was written."""
    lines = capsys.readouterr().err.splitlines()
    assert code != 0 and len(lines) == 1 and lines[0].startswith("irisflow: "), (code, lines)
    assert snapshot(folder) == {}
    return lines[0]


def train_agent(*arguments: str, **changes: str) -> int:
    options = {**RUN, **{f"--{key}": value for key, value in changes.items()}}
    return cli.main(["train-agent", *(f"{key}={value}" for key, value in options.items()), *arguments])


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("option", ["game", "variant", "scale", "seed"])
def test_a_run_refuses_what_is_no_name(
    nowhere: Path, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    assert option in refusal(capsys, nowhere, train_agent(**{option: name}))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("stage", ["aggregate", "report"])
def test_a_study_refuses_what_is_no_name(
    nowhere: Path, capsys: pytest.CaptureFixture[str], stage: str, name: str
) -> None:
    assert "study" in refusal(capsys, nowhere, cli.main([stage, f"--study={name}"]))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--game=Pang"], "nearest: Pong"),
        (["--game=pong"], "nearest: Pong"),
        (["--game=PongNoFrameskip-v4"], "write Pong"),
        (["--variant=iris_pretraind"], "nearest: iris_pretrained"),
        (["--scale=smok"], "nearest: smoke"),
        (["--seed=-1"], "0 or more"),
        (["--seed=many"], "--seed"),
        (["--digest=0123456789abcdef"], "changed since this job was planned"),
        (["--override=training.actor_critic.gama=0.9"], "nearest: gamma"),
        (["--override=training.actor_critic.gamma=2"], "0 to 1"),
        (["--override=training.actor_critic.gamma=nan"], "finite"),
        (["--override=training.actor_critic.gamma=high"], "training.actor_critic.gamma"),
        (["--override=training.sample_by=chance"], "episode, step"),
        (["--override=tokenizer.quantizer.betta=1"], "beta"),
        (["--override=tokenizer.quantizer.beta=x"], "tokenizer.quantizer.beta"),
        (["--override=tokenizer.quantizer.beta=-1"], "tokenizer.quantizer.beta is -1.0; allowed: 0 or more"),
        (
            ["--override=tokenizer.quantizer.beta=inf"],
            "tokenizer.quantizer.beta is inf; allowed: a finite number",
        ),
        (["--override=tokenizer.quantizer.revive_after=-1"], "revive_after is -1; allowed: 0 or more"),
        (
            ["--override=tokenizer.reconstruction.l1.weight=-1"],
            "reconstruction.l1.weight is -1.0; allowed: 0",
        ),
        (["--override=tokenizer.reconstruction.l1.weight=0"], "tokenizer.reconstruction.l1.weight=1"),
        (["--override=actor_critic.channels=[4,0,8,8]"], "actor_critic.channels is 0; allowed: 1 or more"),
        (["--override=world_model.backbone.num_layers=0"], "backbone.num_layers is 0; allowed: 1 or more"),
        (["--override=control=shuffled"], "nearest: shuffled_rewards"),
        (["--override=evaluation.world_model_quality.context=20"], "less than world_model.max_blocks (4)"),
        (["--override=evaluation.num_snapshots=-1"], "0 or more"),
        (["--override=quantizer=fqs"], "There are: fsq"),
        (["--override=tokenizer.quantizer.name=fqs"], "There are: fsq"),
        (["--override=world_model.tokens_per_block=12"], "gives 16 tokens a frame, so it must be 17"),
        (["--override=world_model.num_heads=5"], "multiple"),
        (["--override=common.sequence_length=50"], "world_model.max_blocks"),
        (["--override=training.learning_rate=1e-4,1e-3"], "sweep"),
        (["--override=gamma"], "key=value"),
        (["--override=scale=quick"], "no other scale in the overrides."),
        (["--override=variant=iris_pretrained"], "no other variant in the overrides."),
        (["--override=training.actor_critic.gamma=${oc.env:HOME}"], "gamma"),
        (["--override=training.actor_critic.gamma=${nothing}"], "nothing"),
        (["--override=~training"], "training"),
        (["--override=common.device=tpu"], "common.device"),
        (["--override=common.device=cuda:99"], "CUDA"),
        (["--override=datasets.train.max_ram_usage=much"], "max_ram_usage"),
        (["--colour=red"], "--colour"),
    ],
)
def test_a_run_refuses_a_wrong_argument(
    nowhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    kept = [f"{key}={value}" for key, value in RUN.items() if not arguments[0].startswith(f"{key}=")]
    assert wanted in refusal(capsys, nowhere, cli.main(["train-agent", *kept, *arguments]))


def test_a_variants_file_that_kept_the_name_of_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(params.PARAMS, tmp_path / "params")
    shutil.copy(tmp_path / "params/variant/codebook_small.yaml", tmp_path / "params/variant/mine.yaml")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    with pytest.raises(
        ConfigError, match=r"variant is 'codebook_small'.* 'mine' in params/variant/mine.yaml"
    ):
        params.compose(Choice("smoke", variant="mine"))


def test_foreign_frames_need_two_segments_in_a_batch(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = ("--override=control=foreign_frames", "--override=training.actor_critic.batch_num_samples=1")
    assert "batch_num_samples is 1" in refusal(capsys, nowhere, train_agent(*foreign))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "--held-out"),
        (["--held-out=absent"], "--held-out is absent, which holds no recording"),
        ([f"--held-out={__file__}"], "results/smoke/held_out/iris/Catch/seed-0"),
    ],
)
def test_a_measurement_refuses_what_is_no_recording(
    nowhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    run_of = [f"{key}={value}" for key, value in RUN.items()]
    assert wanted in refusal(capsys, nowhere, cli.main(["measure-world-model", *run_of, *arguments]))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--study=nope"], "study 'nope' does not exist"),
        ([__file__], "holds no artefact and belongs to none"),
    ],
)
def test_verify_refuses_what_holds_no_artefact(
    nowhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    assert wanted in refusal(capsys, nowhere, cli.main(["verify", *arguments]))


def test_a_digest_that_no_longer_holds_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_agent("--digest=0123456789abcdef") == 2


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "env.train.id"),
        (["scale=smoke"], "env.train.id"),
        (["env.train.id=Pang", "scale=smoke"], "nearest: Pong"),
        (["env.train.id=../Pong", "scale=smoke"], "does not exist"),
        (["env.train.id=Catch", "scale=smok"], "nearest: smoke"),
        (["env.train.id=Catch", "scale=../scale/smoke"], "does not exist"),
        (["env.train.id=Catch", "scale=smoke", "common.epohcs=3"], "epochs"),
        (["env.train.id=Catch", "scale=smoke", "common.epochs=0"], "1 or more"),
        (["env.train.id=Catch", "scale=smoke", "common.resume=true"], "run folder"),
        (["env.train.id=Catch", "scale=smoke", "common.device=cuda:99"], "CUDA"),
        (["env.train.id=Catch", "scale=smoke", "initialization.path_to_checkpoint=absent"], "absent"),
        (["--seed", "3"], "--seed"),
    ],
)
def test_the_other_door_refuses_a_wrong_command_line(
    nowhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    code = launch.main(arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("run folder: ")]
    assert code != 0 and len(lines) == 1 and lines[0].startswith("irisflow: ") and wanted in lines[0], lines
    assert snapshot(nowhere) == {}


@pytest.mark.parametrize(
    ("pattern", "replacement", "wanted"),
    [
        (r"games: .*", "games: []", "games"),
        (r"games: .*", "games: [Catch, Catch]", "games"),
        (r"games: .*", "games: [Pang]", "nearest: Pong"),
        (r"games: .*", "games: [PongNoFrameskip-v4]", "write 'Pong'"),
        (r"games: .*", "games: Catch", "games"),
        (r"games: .*", "games: [../Pong]", "not a name"),
        (r"seeds: .*", "seeds: [0, 0]", "seeds"),
        (r"seeds: .*", "seeds: 3", "seeds: it must be a list"),
        (r"seeds: .*", "seeds: [-1]", "0 or more"),
        (r"seeds: .*", "seeds: [many]", "seeds"),
        (r"baseline: .*", "baseline: irish", "nearest: iris"),
        (r"variants: .*", "variants: [irish]", "nearest: iris"),
        (r"scale: .*", "scale: smokey", "nearest: smoke"),
        (r"scale: .*", "", "scale"),
        (r"title: .*", "titel: Mine", "titel"),
        (r"bootstrap_reps: .*", "bootstrap_reps: 0", "bootstrap_reps"),
        (r"overrides: .*", "random_play: many", "'many' of type 'str' could not be converted to Integer."),
        (r"overrides: .*", "random_play: -1", "0 or more"),
        (r"overrides: .*", "overrides: [training.gama=1]", "training.gama"),
        (r"overrides: .*", "overrides: [variant=iris_pretrained]", "no other variant in the overrides."),
        (r"overrides: .*", "overrides: [scale=quick]", "no other scale in the overrides."),
        (r"title: .*", "title: [", "valid YAML"),
    ],
)
@pytest.mark.slow
def test_a_wrong_study_file_is_refused_with_its_name(
    checkout: Path, pattern: str, replacement: str, wanted: str
) -> None:
    study = checkout / "params/study/wrong.yaml"
    study.write_text((checkout / "params/study/smoke.yaml").read_text())
    try:
        edit(study, pattern, replacement)
        before = snapshot(checkout)
        result = irisflow(checkout, "aggregate", "--study", "wrong")
        lines = result.stderr.splitlines()
        assert result.returncode == 2 and len(lines) == 1 and wanted in lines[0], lines
        assert snapshot(checkout) == before
    finally:
        study.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        "study=$(touch x)",
        "studdy=smoke",
        "study=5",
        "games=Pong",
        "games=[Pang]",
        "seeds=[zero]",
        "overrides=['training.gama=1']",
    ],
)
def test_snakemake_refuses_a_wrong_study_in_one_line(checkout: Path, config: str) -> None:
    before = snapshot(checkout)
    result = snakemake(checkout, "--cores", "1", "--config", config)
    assert result.returncode != 0 and len(own_lines(result.stderr)) == 1, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert snapshot(checkout) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("iris/Pang", "nearest: Pong"),
        ("irs/Pong", "nearest: iris"),
        ("iris/a;$(touch x)", "is not a name"),
        ("iris/Pong x", "is not a name"),
        ("iris/../up", "No rule to produce"),
        ("iris/" + 300 * "a", "No rule to produce"),
    ],
)
def test_snakemake_makes_nothing_for_a_target_with_a_wrong_name(
    checkout: Path, name: str, message: str
) -> None:
    before = snapshot(checkout)
    result = snakemake(checkout, f"results/smoke/agents/{name}/seed-0/agent.safetensors", "--cores", "1")
    assert result.returncode != 0 and "Traceback" not in result.stdout + result.stderr
    assert message in result.stdout + result.stderr
    assert len(own_lines(result.stderr)) == (message != "No rule to produce")
    assert snapshot(checkout) == before


@pytest.mark.slow
def test_main_py_is_the_same_door(checkout: Path) -> None:
    before = snapshot(checkout)
    result = run(checkout, "python", "src/main.py", "env.train.id=Pang")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "Pong" in result.stderr
    assert snapshot(checkout) == before
