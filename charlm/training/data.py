"""The run's ids as windows, cut for each process."""

from __future__ import annotations

import lightning

from charlm.run import Run
from charlm.text.batching import Items, Lanes, batches


class LanguageData(lightning.LightningDataModule):
    """Training windows of a run; each process reads its own lanes of the same global batch."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def train_dataloader(self) -> Lanes | Items:
        data = self.run.config.data
        assert self.trainer is not None
        assert data.batch_size is not None
        assert data.seq_length is not None
        return batches(
            self.run.stream("train"),
            data.batch_size,
            data.seq_length,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            seed=self.run.config.seed,
            state_reset=data.state_reset,
        )
