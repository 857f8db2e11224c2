"""The same numbers for TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irisflow.training.metrics import Metrics, with_duration


class TensorBoardOutlet:
    """Writes `tensorboard/epochs` and `tensorboard/episodes` in a run folder, the latter by the episode's own number.

    A run that goes on hides what was written of the epochs that it does again.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._writer_of = folder / "tensorboard", SummaryWriter
        self._epochs: Any = None  # opened at the first epoch: only then is it known which are done again
        self._episodes: Any = SummaryWriter(str(self._folder / "episodes"))

    def write(self, metrics: Metrics) -> None:
        """Write one epoch."""
        epoch = int(metrics["epoch"])
        if self._epochs is None:
            purge = epoch if epoch > 1 else None
            self._epochs = self._writer_of(str(self._folder / "epochs"), purge_step=purge)
        for name, value in metrics.items():
            if name != "epoch":
                self._epochs.add_scalar(name, value, epoch)
        self._epochs.flush()

    def write_timings(self, timings: Metrics) -> None:
        """Write what the epoch's phases took."""
        self.write(with_duration(timings))

    def write_episodes(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write each episode's return, length and actions."""
        for row in rows:
            prefix, number = f"{row['dataset']}/", row["episode_num"]
            self._episodes.add_scalar(f"{prefix}episode_return", row["episode_return"], number)
            self._episodes.add_scalar(f"{prefix}episode_length", row["episode_length"], number)
            _add_histogram(self._episodes, f"{prefix}action_histogram", row["action_histogram"], number)
        self._episodes.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._epochs is not None:
            self._epochs.close()
        self._episodes.close()


def _add_histogram(writer: Any, name: str, shares: list[float], step: int) -> None:
    """Add the shares of actions 0, 1, ... as one histogram with a bar each."""
    actions = range(len(shares))
    writer.add_histogram_raw(
        name,
        min=0,
        max=len(shares) - 1,
        num=1,
        sum=sum(action * share for action, share in zip(actions, shares, strict=True)),
        sum_squares=sum(action**2 * share for action, share in zip(actions, shares, strict=True)),
        bucket_limits=[action + 0.5 for action in actions],
        bucket_counts=shares,
        global_step=step,
    )
