"""Other numbers of tokens and codes: everything that follows the tokenizer follows them, from params alone."""

import pytest
import torch
from parts import NUM_ACTIONS, configured

from irisflow.behaviour.agent import Agent, build_agent
from irisflow.behaviour.imagination import imagine
from irisflow.data.collect import RandomPolicy, record_episodes
from irisflow.envs.toy import Catch
from irisflow.evaluation.world_model_quality import examine, open_loop_quality, tokenizer_quality
from irisflow.records import Batch
from irisflow.training.losses import encoded
