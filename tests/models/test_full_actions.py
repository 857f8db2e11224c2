"""A world model of all 18 actions: told a game's own action numbers, it does what a table of the game's own would do."""

from pathlib import Path

import ale_py
import numpy as np
import pytest
import torch
from sizes import world_model_settings
from torch import Tensor

from irisflow.envs.atari import AtariEnvironment
from irisflow.envs.toy import Catch
from irisflow.errors import ConfigError, DataError
from irisflow.games import FULL_ACTIONS
from irisflow.records import Episode, TokenBatch
from irisflow.stages.recordings import with_full_actions
from irisflow.world_model.world_model import WorldModel, build_world_model

IDS, VOCAB, TOKENS = (0, 3, 4), 8, 16


def build(actions: str, num_actions: int = 3, ids: tuple[int, ...] | None = IDS) -> WorldModel:
    torch.manual_seed(0)
    settings = world_model_settings(pdrop=0.0)
    settings.actions = actions
    sizes = {"vocab_size": VOCAB, "num_actions": num_actions, "tokens_per_frame": TOKENS}
    return build_world_model(settings, **sizes, full_action_ids=ids).eval()


def own_table(full: WorldModel) -> WorldModel:
    """Return a world model of the game's own actions whose rows are those that the full table has for them."""
    own, weights = build("game"), full.state_dict()
    table = "embedding.actions.weight"
    own.load_state_dict(weights | {table: weights[table][list(IDS)]})
    return own


def drawn(steps: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (2, steps, TOKENS), generator=generator)
    return tokens, torch.randint(len(IDS), (2, steps), generator=generator)


def test_loss_observation_and_imagination_are_those_of_a_table_of_the_games_own_actions() -> None:
    full, (tokens, actions) = build("all"), drawn()
    own = own_table(full)
    rest = (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool))
    terms = [model.loss(TokenBatch(tokens, actions, *rest)).terms for model in (full, own)]
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[1])
    found = []
    for model in (full, own):
        state = model.observe(None, tokens, actions[:, :2])
        found.append(model.imagine(state, actions[:, 2], generator=torch.Generator().manual_seed(2))[0])
    assert torch.equal(found[0].tokens, found[1].tokens) and torch.equal(found[0].rewards, found[1].rewards)


def test_weights_are_the_same_for_every_game() -> None:
    pong, catch = build("all", ids=IDS), build("all", ids=(4, 0, 3))
    assert pong.state_dict().keys() == catch.state_dict().keys() == build("game").state_dict().keys()
    catch.load_state_dict(pong.state_dict())
    tokens, _ = drawn()
    right = [(pong, 1), (catch, 2)]
    outputs = [model(tokens, torch.full((2, 3), action)).outputs for model, action in right]
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], pong(tokens, torch.full((2, 3), 2)).outputs)


def test_an_environment_whose_actions_mean_nothing_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"world_model\.actions is all.*Allowed: game"):
        build("all", ids=None)


def test_the_full_set_is_the_emulators() -> None:
    assert [ale_py.Action(index).name for index in range(18)] == list(FULL_ACTIONS)
    words = [FULL_ACTIONS[index] for index in AtariEnvironment("Breakout").full_action_ids]
    assert words == ["NOOP", "FIRE", "RIGHT", "LEFT"]


@pytest.mark.parametrize(("action", "word"), list(enumerate(["LEFT", "NOOP", "RIGHT"])))
def test_catch_moves_as_its_actions_words_say(action: int, word: str) -> None:
    catch = Catch()
    assert FULL_ACTIONS[catch.full_action_ids[action]] == word
    catch.reset(seed=0)
    catch.step(action)
    assert catch._paddle - 2 == {"LEFT": -1, "NOOP": 0, "RIGHT": 1}[word]


def test_recorded_actions_become_those_of_the_full_set() -> None:
    flags = np.zeros(3, np.bool_)
    episode = Episode(
        np.zeros((3, 3, 4, 4), np.uint8), np.array([2, 0, 1]), np.zeros(3, np.float32), flags, flags
    )
    (mapped,) = with_full_actions([episode], Path("r"), (4, 0, 3))
    assert mapped.actions.tolist() == [3, 4, 0] and mapped.actions.dtype == np.int64
    with pytest.raises(DataError, match="action above 1"):
        with_full_actions([episode], Path("r"), (4, 0))
