"""Writes down what a run by hand shows of an epoch: media, one row an episode, and the agent so far.

All of it before the epoch's checkpoint: a run that is killed does the epoch again, and writes the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from omegaconf import DictConfig

from irisflow.by_hand.folder import RunFolder
from irisflow.by_hand.media import EpisodeFolder, imagined_episodes, reconstruction_sheet, save_picture
from irisflow.records import Episode
from irisflow.training.loop import EpochReport, Trainer
from irisflow.training.metrics import MetricsSink
from irisflow.training.run import History
from irisflow.training.testing import as_dataset

IMAGINATION = "imagination"
Row = dict[str, Any]


class Outlet(MetricsSink, Protocol):
    """Takes the numbers of a run by hand: an epoch's, and a row for each of its episodes."""

    def write_episodes(self, rows: Sequence[Row]) -> None:
        """Take the episodes that an epoch finished, before its numbers."""


@dataclass(frozen=True)
class Played:
    """An episode to be saved and reported."""

    episode: Episode
    number: int
    is_finished: bool = True


class Recorder:
    """Told of each epoch before it is saved. `publish` writes the agent as it is now to a folder."""

    def __init__(
        self,
        whole: DictConfig,
        folder: RunFolder,
        *,
        game: str,
        outlets: Sequence[Outlet],
        publish: Callable[[str, History], None],
    ) -> None:
        self.whole, self.folder, self.outlets, self.publish = whole, folder, outlets, publish
        self.labels = {"train": whole.datasets.train.name, "test": whole.datasets.test.name}
        kept = {
            "train": whole.collection.train.num_episodes_to_save,
            "test": whole.collection.test.num_episodes_to_save,
            IMAGINATION: whole.evaluation.actor_critic.num_episodes_to_save,
        }
        self.saved = {
            name: EpisodeFolder(folder.episodes / name, max_num=num, notes={"game": game, "dataset": name})
            for name, num in kept.items()
        }

    def __call__(self, report: EpochReport, history: History, trainer: Trainer) -> None:
        """Save the media of an epoch, add its rows to the history, and hand them on."""
        metrics = history.metrics[-1]
        played = {"train": _collected(report, history, trainer), "test": _tested(report, history)}
        if played["test"]:
            self._reconstruct(report, trainer)
            played[IMAGINATION] = self._imagined(report, history, trainer)
        num_actions = trainer.agent.actor_critic.num_actions
        rows = []
        for name, episodes in played.items():
            for one in episodes:
                self.saved[name].save(
                    one.episode, number=one.number, epoch=report.epoch, is_finished=one.is_finished
                )
            finished = [one for one in episodes if one.is_finished]
            rows += [_row(name, report.epoch, one, num_actions) for one in finished]
            if name == IMAGINATION and finished:
                metrics |= {
                    "imagination/return": float(np.mean([one.episode.score for one in finished])),
                    "imagination/length": float(np.mean([len(one.episode) for one in finished])),
                }
        history.episodes += rows
        history.metrics[-1] = {self._labelled(name): value for name, value in metrics.items()}
        labelled = [{**row, "dataset": self.labels.get(row["dataset"], row["dataset"])} for row in rows]
        for outlet in self.outlets:
            outlet.write_episodes(labelled)
        if self.whole.common.do_checkpoint:
            self.publish("last", history)
            if report.played and is_best(history):
                self.publish("best", history)

    def episode_rows(self, history: History) -> list[Row]:
        """Return a row for each episode so far, under the names that `datasets` gives."""
        return [
            {**row, "dataset": self.labels.get(row["dataset"], row["dataset"])} for row in history.episodes
        ]

    def _labelled(self, name: str) -> str:
        """Return a number's name with the dataset's own name (`datasets.train.name`) in front."""
        prefix, slash, rest = name.partition("/")
        label = self.labels.get(prefix.removesuffix("_dataset")) if prefix.endswith("_dataset") else None
        return f"{label}{slash}{rest}" if label else name

    def _reconstruct(self, report: EpochReport, trainer: Trainer) -> None:
        if not self.whole.evaluation.tokenizer.save_reconstructions:
            return
        if report.epoch <= self.whole.evaluation.tokenizer.start_after_epochs:
            return
        sheet = reconstruction_sheet(
            trainer.agent.tokenizer,
            as_dataset(report.played),
            length=self.whole.common.sequence_length,
            seed=self.whole.common.seed,
            epoch=report.epoch,
        )
        save_picture(self.folder.reconstructions / f"epoch_{report.epoch:03d}.png", sheet)

    def _imagined(self, report: EpochReport, history: History, trainer: Trainer) -> list[Played]:
        asked = self.whole.evaluation.actor_critic
        if report.epoch <= asked.start_after_epochs or not asked.num_episodes_to_save:
            return []
        episodes = imagined_episodes(
            trainer.agent,
            as_dataset(report.played),
            num=asked.num_episodes_to_save,
            horizon=asked.horizon,
            burn_in=self.whole.training.actor_critic.burn_in,
            seed=self.whole.common.seed,
            epoch=report.epoch,
        )
        first = _num_earlier(history, IMAGINATION)
        return [Played(episode, first + index) for index, episode in enumerate(episodes)]


def is_best(history: History) -> bool:
    """Return whether the newest evaluation's mean return is higher than that of each before it."""
    returns: dict[int, list[float]] = {}
    for row in history.episodes:
        if row["dataset"] == "test":
            returns.setdefault(row["epoch"], []).append(row["episode_return"])
    *earlier, newest = [float(np.mean(scores)) for scores in returns.values()]
    return all(newest > mean for mean in earlier)


def _collected(report: EpochReport, history: History, trainer: Trainer) -> list[Played]:
    """Return the training episodes that this epoch finished, as far as the buffer still has them, and the open one."""
    if "collect" not in report.usage:
        return []
    replay = trainer.replay
    is_open = bool(replay.get_state()["is_open"])
    num_finished = int(report.metrics["train_dataset/finished_episodes"])
    first, end = _num_earlier(history, "train"), replay.num_episodes - is_open
    numbered = [(end - num_finished + index, first + index) for index in range(num_finished)]
    played = [Played(replay.episode(index), number) for index, number in numbered if index >= 0]
    return (
        [*played, Played(replay.episode(-1), first + num_finished, is_finished=False)] if is_open else played
    )


def _tested(report: EpochReport, history: History) -> list[Played]:
    first = _num_earlier(history, "test")
    return [
        Played(game.episode, first + index)
        for index, game in enumerate(report.played)
        if game.episode is not None
    ]


def _num_earlier(history: History, dataset: str) -> int:
    """Return the number of the first episode that this epoch adds to a dataset."""
    numbers = [row["episode_num"] for row in history.episodes if row["dataset"] == dataset]
    return max(numbers, default=-1) + 1


def _row(dataset: str, epoch: int, played: Played, num_actions: int) -> Row:
    """Return what is reported of an episode; the histogram holds the share of each action."""
    episode = played.episode
    counts = np.bincount(episode.actions, minlength=num_actions)
    return {
        "dataset": dataset,
        "epoch": epoch,
        "episode_num": played.number,
        "episode_return": round(episode.score, 6),
        "episode_length": len(episode),
        "terminated": bool(episode.terminated[-1]),
        "truncated": bool(episode.truncated[-1]),
        "action_histogram": [round(float(share), 6) for share in counts / counts.sum()],
    }
