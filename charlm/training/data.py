"""The training text as batches; each process reads its own rows (lanes or items) of every batch."""

from __future__ import annotations

import lightning

from charlm.config import DataConfig
from charlm.text.batching import ItemBatches, Lanes, batches
from charlm.text.stream import TokenStream


class LanguageData(lightning.LightningDataModule):
    """The Lightning data module of the training batches.

    All processes divide the rows of each batch (lanes or items) among themselves.

    Args:
        stream: The training text.
        data: Settings of batch size, window length and resets of the recurrent state.
        seed: Seed of the random order of items, or of the random resets of the state of lanes.
    """

    def __init__(self, stream: TokenStream, data: DataConfig, seed: int) -> None:
        super().__init__()
        self.stream, self.data, self.seed = stream, data, seed

    def train_dataloader(self) -> Lanes | ItemBatches:
        assert self.trainer is not None
        return batches(
            self.stream,
            self.data.batch_size,
            self.data.seq_length,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            seed=self.seed,
            state_reset=self.data.state_reset,
        )
