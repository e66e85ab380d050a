"""LanguageModel: token ids and a state in, scores for the next token and the next state out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.network.cells import cells
from charlm.network.initialisation import initialise
from charlm.network.recurrence import Layer
from charlm.network.shape import ModelShape


class LanguageModel(nn.Module):
    """Embedding, stacked recurrent layers, projection to one score for each token of the vocabulary.

    The state is one tensor (layers, slots, batch, hidden), float32 (float64 in a float64 model) whatever the
    cell and the precision: `state.detach()` is truncated back-propagation through time.

    Args:
        shape: The sizes and options of the network.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        cell = cells[shape.cell]()
        widths = [shape.embedding] + [shape.hidden] * (shape.layers - 1)
        self.embedding = nn.Embedding(shape.vocabulary, shape.embedding)
        self.layers = nn.ModuleList(
            Layer(
                cell,
                width,
                shape.hidden,
                zoneout=shape.zoneout,
                recurrent_dropout=shape.recurrent_dropout,
                weight_drop=shape.weight_drop,
            )
            for width in widths
        )
        norms = [nn.LayerNorm(shape.hidden) if shape.layer_norm else nn.Identity() for _ in widths]
        self.norms = nn.ModuleList([nn.Identity(), *norms[1:]])
        self.norm = norms[0]  # before the output projection
        self.projection = nn.Linear(shape.hidden, shape.embedding, bias=False) if shape.projected else nn.Identity()
        self.output = nn.ParameterDict({"bias": torch.zeros(shape.vocabulary)})
        if not shape.tie:
            self.output["weight"] = torch.empty(shape.vocabulary, shape.hidden)
        self.input_dropout = nn.Dropout(shape.input_dropout)
        self.dropout = nn.Dropout(shape.dropout)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Embeddings of size 1, a small output matrix: at first all tokens are about equally likely.

        How layers start is in `initialise`.

        Embeddings a tenth as large learn far slower (tiny Shakespeare, 900 steps: 1.78 nats against 1.66), so a
        matrix that is both embedding and output is made as large as even scores at the start allow.
        """
        for layer in self.layers:
            assert isinstance(layer, Layer)
            initialise(
                layer,
                forget_bias=self.shape.forget_bias,
                chrono=self.shape.chrono,
                gate_scale=self.shape.gate_scale,
                recurrent_init=self.shape.recurrent_init,
                recurrent_scale=self.shape.recurrent_scale,
            )
        if self.shape.tie:
            # Behind a layer norm features are of size 1, else far smaller.
            size = 0.25 / math.sqrt(self.shape.embedding) if self.shape.layer_norm else 0.05
            nn.init.normal_(self.embedding.weight, std=size)
        else:
            nn.init.normal_(self.embedding.weight, std=1.0)
            # Features are at most about 1 in size (tanh, or a layer norm), so that scores deviate by about 0.1.
            nn.init.normal_(self.output["weight"], std=0.1 / math.sqrt(self.shape.hidden))
        if isinstance(self.projection, nn.Linear):
            nn.init.orthogonal_(self.projection.weight)

    def initial_state(self, batch: int) -> Tensor:
        """The state before any token was read: zeros (layers, slots, batch, hidden)."""
        weight = self.embedding.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        size = (self.shape.layers, self.shape.slots, batch, self.shape.hidden)
        return torch.zeros(size, dtype=dtype, device=weight.device)

    def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (batch, time, vocabulary) of what follows each of `ids` (batch, time), and the state."""
        features, state = self.hidden(ids, state)
        return self.project(features), state

    def hidden(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `project` turns into scores, (batch, time, hidden), and the next state.

        For windows whose scores are too many to hold at once: project the features in pieces.
        """
        if state is None:
            state = self.initial_state(len(ids))
        dropped = bool(self.shape.input_dropout and self.training)
        x = self.input_dropout(self.embedding(ids)) if dropped else self.embedding.weight
        states = []
        for index, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            # The first layer projects the embedding itself where that is less work than what was looked up in it.
            y, new = layer(norm(x), state[index], None if index or dropped else ids)
            y = self.dropout(y)
            x = x + y if self.shape.residual and index else y
            states.append(new)
        return self.norm(x), torch.stack(states)

    def output_inputs(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last linear map as (its input (..., width), weight (vocabulary, width), bias (vocabulary,))."""
        weight = self.embedding.weight if self.shape.tie else self.output["weight"]
        return self.projection(features), weight, self.output["bias"]

    def project(self, features: Tensor) -> Tensor:
        """Scores (..., vocabulary) from features (..., hidden)."""
        return F.linear(*self.output_inputs(features))

    def describe(self, device: str) -> str:
        """How the layers go through a window of training on a device, in words."""
        (words,) = {layer.describe(device) for layer in self.layers if isinstance(layer, Layer)}
        return words

    def table(self) -> list[tuple[str, str, int]]:
        """One row for each part of the network: its name, its shape in words, its number of parameters."""
        return self.shape.table()


@contextlib.contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """A model in evaluation mode (nothing is dropped) for the time being."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
