"""`LanguageModel`: from token ids and a state to the logits of the next token and a new state."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.cells import cells
from charlm.network.initialisation import initialise
from charlm.network.layer import Layer
from charlm.network.recurrence import run_over_layers
from charlm.network.summary import Row, check_model, has_projection, has_residual, parameter_table


class LanguageModel(nn.Module):
    """An embedding, stacked layers, and a projection to one logit for each token of the vocabulary.

    The state is one tensor (layers, states, batch, hidden), where `states` is the number of arrays
    that the cell carries. It is float32 (float64 in a float64 model), whatever the precision of the
    computation. Detach it between windows (`state.detach()`) for truncated back-propagation through
    time.

    Args:
        config: The settings of the network, each with a value other than None.
        vocab_size: Number of tokens of the vocabulary.

    Raises:
        CharlmError: the cell is unknown, or the widths or heads do not fit the cell.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        check_model(config)
        self.config = config
        self.vocab_size = vocab_size
        cell = self.cell = cells[config.cell](config)
        widths = [config.embedding] + [config.hidden] * (config.layers - 1)
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.layers = nn.ModuleList(Layer(cell, width, config) for width in widths)
        norms = [nn.LayerNorm(config.hidden) if config.layer_norm else nn.Identity() for _ in widths]
        self.norms = nn.ModuleList([nn.Identity(), *norms[1:]])
        self.norm = norms[0]  # before the output projection
        self.projection = (
            nn.Linear(config.hidden, config.embedding, bias=False) if has_projection(config) else nn.Identity()
        )
        self.output = nn.ParameterDict({"bias": torch.zeros(vocab_size)})
        if not config.tie:
            self.output["weight"] = torch.empty(vocab_size, config.hidden)
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the initial weights of the embedding, the layers and the output projection.

        The layers start as in `initialise`. An embedding that is not tied to the output has
        variance 1: an embedding with values a tenth as large learns far more slowly (tiny
        Shakespeare, 900 steps: 1.78 nats against 1.66). The output matrix is small, so that all
        logits start nearly equal. A matrix that serves as embedding and as output matrix (tied)
        starts as large as it can while the logits are nearly equal.
        """
        for layer in self.layers:
            assert isinstance(layer, Layer)
            initialise(layer, self.config)
        if self.config.tie:
            # After a layer norm features have variance 1, else they are far smaller.
            size = 0.25 / math.sqrt(self.config.embedding) if self.config.layer_norm else 0.05
            nn.init.normal_(self.embedding.weight, std=size)
        else:
            nn.init.normal_(self.embedding.weight, std=1.0)
            # Features are at most about 1 (tanh, or a layer norm), so that the logits start with a
            # standard deviation of about 0.1.
            nn.init.normal_(self.output["weight"], std=0.1 / math.sqrt(self.config.hidden))
        if isinstance(self.projection, nn.Linear):
            nn.init.orthogonal_(self.projection.weight)

    @torch.no_grad()
    def initialise_output_bias(self, counts: Tensor) -> None:
        """Set the output bias to the log frequencies of the tokens.

        An untrained network then predicts each token with about its frequency, and the first
        training steps need not learn the frequencies. Text that is generated early in training then
        consists mostly of frequent tokens, and not of all tokens equally often.

        Args:
            counts: How often each token occurs in the training text, (vocab_size,). Half an
                occurrence is added to each (Krichevsky and Trofimov, 1981), so that a token that
                never occurs is improbable, not impossible.
        """
        smoothed = counts.double() + 0.5
        self.output["bias"].copy_(smoothed.log() - smoothed.sum().log())

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first token: zeros (layers, states, batch, hidden)."""
        weight = self.embedding.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        size = (self.config.layers, self.cell.states, batch, self.config.hidden)
        return torch.zeros(size, dtype=dtype, device=weight.device)

    def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits of the token after each of `ids`, and the next state.

        Args:
            ids: Token ids, (batch, time).
            state: The state before the window, (layers, states, batch, hidden); None: zeros.

        Returns:
            Logits (batch, time, vocab_size), and the state after the window.
        """
        features, state = self.hidden(ids, state)
        return self.project(features), state

    def hidden(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the features from which `project` makes logits, and the next state.

        Args:
            ids, state: As in `forward`.

        Returns:
            Features (batch, time, hidden), and the state after the window.
        """
        if state is None:
            state = self.initial_state(len(ids))
        # Without input dropout the first layer gets the embedding table: it may have fewer rows to
        # project than the window has tokens.
        lookup = not (self.config.input_dropout and self.training)
        x = self.embedding.weight if lookup else self.input_dropout(self.embedding(ids))

        def run_layer(index: int, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            y, new = self.layers[index](self.norms[index](x), state, ids if lookup and not index else None)
            return self.dropout(y), new

        x, states = run_over_layers(run_layer, x, state, residual=has_residual(self.config))
        return self.norm(x), torch.stack(states)

    def output_inputs(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the output layer computes logits from.

        That is its input (..., width), its weight (vocab_size, width) and its bias (vocab_size,).
        """
        weight = self.embedding.weight if self.config.tie else self.output["weight"]
        return self.projection(features), weight, self.output["bias"]

    def project(self, features: Tensor) -> Tensor:
        """Return the logits (..., vocab_size) for features (..., hidden)."""
        return F.linear(*self.output_inputs(features))

    def describe(self, device: str) -> str:
        """Return, in words, how the layers compute a window on a device."""
        (words,) = {layer.describe(device) for layer in self.layers if isinstance(layer, Layer)}
        return words

    def table(self) -> list[Row]:
        """Return a table with one row for each part of the network; see `parameter_table`."""
        return parameter_table(self.config, self.vocab_size)


@contextlib.contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Put a model into evaluation mode (no dropout), and back into its former mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
