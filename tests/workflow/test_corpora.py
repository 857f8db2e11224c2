"""What is pretrained on which games: a pool's parts once, those of a game without its own recordings, and honest counts."""

import json
from pathlib import Path

import pytest

from irisflow import cli, params, paths
from irisflow.errors import ConfigError
from irisflow.games import ANY, check_run_game, corpus_games
from irisflow.identity import planned_digest
from irisflow.params import Choice
from irisflow.study import Study
from irisflow.workflow import StudyPlan
from workspace import planned

GAMES = ["Catch", "Pong"]
LARGER = ["scale.corpus.games=[Catch,Pong,Boxing]"]


def plan(*variants: str, games: list[str] | None = None, overrides: list[str] | None = None) -> StudyPlan:
    study = Study(
        name="test",
        title="test",
        scale="smoke",
        games=games or GAMES,
        variants=list(variants),
        baseline=variants[0],
        seeds=[0, 1],
        overrides=overrides or [],
    )
    return StudyPlan(study)


def folders(files: list[Path]) -> list[str]:
    return sorted({file.parent.as_posix() for file in files})


def digest(corpus: str, game: str = "Pong", overrides: tuple[str, ...] = ()) -> str:
    choice = Choice("smoke", tokenizer="iris", corpus=corpus, overrides=overrides)
    return params.digest("pretrain_tokenizer", params.compose(choice), game, 0)


@pytest.mark.parametrize(
    ("corpus", "game", "expected"),
    [
        ("own", "Pong", ["Pong"]),
        ("pool", ANY, ["Catch", "Pong"]),
        ("leave_one_out", "Pong", ["Catch"]),
        ("leave_one_out", "Boxing", ["Catch", "Pong"]),
    ],
)
def test_a_corpus_has_the_recordings_of_its_games_with_the_same_seed(
    corpus: str, game: str, expected: list[str]
) -> None:
    files = plan("iris").corpus_recordings(scale="smoke", corpus=corpus, game=game, seed="1")
    folders_of_files = [f"data/smoke/{name}/seed-1" for name in expected]
    assert files == [
        f"{folder}/{name}" for folder in folders_of_files for name in (paths.EPISODES, "manifest.json")
    ]


def test_a_pools_tokenizer_is_one_for_all_games_and_others_are_each_games_own() -> None:
    tokenizers = "results/smoke/tokenizers/iris"
    found = folders(plan("tokenizer_pool", "tokenizer_leave_one_out", "tokenizer_frozen").pretrained)
    own = [f"{corpus}/{game}" for corpus in ("leave_one_out", "own") for game in GAMES]
    assert found == sorted(
        f"{tokenizers}/{folder}/seed-{seed}" for folder in ["pool/any", *own] for seed in (0, 1)
    )


def test_a_study_records_the_games_of_its_pools_too_and_each_once() -> None:
    assert folders(plan("iris").recordings) == []
    own = plan("tokenizer_frozen", games=["Pong"])
    assert folders(own.recordings) == ["data/smoke/Pong/seed-0", "data/smoke/Pong/seed-1"]
    pool = plan("tokenizer_frozen", "world_model_pool", games=["Pong"], overrides=LARGER)
    assert folders(pool.recordings) == sorted(
        f"data/smoke/{game}/seed-{seed}" for game in ("Catch", "Pong", "Boxing") for seed in (0, 1)
    )
    assert len(pool.recordings) == len(set(pool.recordings))


def test_a_world_model_lies_over_the_tokenizer_of_its_own_corpus() -> None:
    weights = plan("world_model_pool").initial_weights(
        scale="smoke", variant="world_model_pool", game="Pong", seed=0
    )
    expected = ["tokenizers/iris/pool/any", "world_models/iris_all_actions/iris/pool/any"]
    assert [str(Path(file).parent) for file in weights[::2]] == [
        f"results/smoke/{folder}/seed-0" for folder in expected
    ]


def test_variants_that_share_pretraining_plan_it_once() -> None:
    names = ("tokenizer_fine_tuned", "tokenizer_fine_tuned_decoder", "tokenizer_frozen")
    assert plan(*names).pretrained == plan(names[0]).pretrained


def test_a_digest_changes_with_the_games_of_a_pool_and_never_for_own() -> None:
    larger = tuple(LARGER)
    assert digest("own") == digest("own", overrides=larger)
    for corpus, game in (("pool", ANY), ("leave_one_out", "Pong")):
        assert digest(corpus, game) != digest(corpus, game, larger)
    assert len({digest("own"), digest("pool"), digest("leave_one_out")}) == 3


def test_the_address_of_a_pools_tokenizer_leads_back_to_its_digest() -> None:
    folder = paths.tokenizer("smoke", "iris", "pool", ANY, 0)
    address = paths.address(folder)
    assert address is not None and address[1]["game"] == ANY
    names = {"scale": "smoke", "tokenizer": "iris", "corpus": "pool", "game": ANY, "seed": "0"}
    planned_now = plan("tokenizer_pool").digest("pretrain_tokenizer", **names)
    assert planned_digest(folder, []) == planned_now == digest("pool", ANY)


@pytest.mark.parametrize(
    ("game", "corpus", "wanted"),
    [
        ("Pong", "pool", "Write any"),
        (ANY, "own", "does not exist"),
        (ANY, "leave_one_out", "does not exist"),
        (ANY, None, "does not exist"),
    ],
)
def test_any_stands_for_a_game_where_a_pool_is_read_and_nowhere_else(
    game: str, corpus: str | None, wanted: str
) -> None:
    with pytest.raises(ConfigError, match=wanted):
        check_run_game(game, corpus=corpus)
    assert check_run_game(ANY, corpus="pool") == ANY


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["pretrain-tokenizer", "--corpus=pool", "--game=Pong"], "Write any"),
        (["pretrain-tokenizer", "--corpus=own", "--game=any"], "does not exist"),
        (["pretrain-tokenizer", "--corpus=pool", "--game=any", "--override=scale.corpus.games=[]"], "one or more"),
        (["pretrain-tokenizer", "--corpus=pool", "--game=any", "--override=corpus.games=[Pong,Pong]"], "each once"),
        (["pretrain-tokenizer", "--corpus=pool", "--game=any", "--override=corpus.games=[Pang]"], "nearest: Pong"),
        (["pretrain-tokenizer", "--corpus=own", "--game=Pong", "--override=corpus.games=[Pong]"], "none"),
        (["pretrain-tokenizer", "--corpus=pol", "--game=any"], "nearest: pool"),
        (["pretrain-world-model", "--world-model=iris", "--corpus=pool", "--game=any"], "world_model.actions=all"),
        (["train-agent", "--variant=iris_pretrained", "--game=Pong", "--override=corpus=pool"], "iris_all_actions"),
    ],
)  # fmt: skip
def test_a_corpus_that_cannot_be_is_refused_in_one_line(
    arguments: list[str],
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = [] if arguments[0] == "train-agent" else ["--tokenizer=iris"]
    assert cli.main([*arguments, *tokenizer, "--scale=smoke", "--seed=0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and wanted in lines[0] and not list(tmp_path.rglob("*.safetensors"))


def test_a_pool_without_another_game_leaves_nothing() -> None:
    with pytest.raises(ConfigError, match="has no game but Catch"):
        corpus_games("leave_one_out", ["Catch"], "Catch")


@pytest.mark.slow
def test_a_study_of_pretraining_plans_each_shared_part_once(checkout: Path) -> None:
    cells, pools = 2 * 2, 2
    own, all_but_one = cells, cells
    expected = {
        "collect": 4 * 2,
        "pretrain_tokenizer": own + all_but_one + pools,
        "pretrain_world_model": 2 * own + all_but_one + pools,
        **dict.fromkeys(("train_agent", "evaluate", "measure_world_model"), 10 * cells),
        "hold_out": 2,
        "aggregate": 1,
        "report": 1,
    }
    assert planned(checkout, "reports/summary.pdf", "--config", "study=pretraining") == expected


@pytest.mark.slow
def test_a_pools_world_model_starts_two_games_and_all_recorded_steps_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, pool = ["--scale=smoke", "--seed=0"], ["--corpus=pool", "--game=any", "--tokenizer=iris"]
    for game in GAMES:
        assert cli.main(["collect", f"--game={game}", *run]) == 0
    assert cli.main(["pretrain-tokenizer", *pool, *run]) == 0
    assert cli.main(["pretrain-world-model", "--world-model=iris_all_actions", *pool, *run]) == 0
    world_model = paths.world_model("smoke", "iris_all_actions", "iris", "pool", ANY, 0)
    read = json.loads((world_model / "manifest.json").read_text())["about"]["recordings"]
    assert set(read.values()) == {64} and len(read) == 2
    for game in GAMES:
        assert cli.main(["train-agent", "--variant=world_model_pool", f"--game={game}", *run]) == 0
        agent = paths.agent("smoke", "world_model_pool", game, 0)
        assert json.loads((agent / "manifest.json").read_text())["about"]["pretraining_env_steps"] == 128
    assert cli.main(["verify", "results", "data"]) == 0
