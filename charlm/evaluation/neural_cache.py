"""A neural cache: tokens that recently followed similar features become more probable.

The method is that of Grave et al. (2017). Let x_i be the tokens of a text, and h_i the features of
the model when it has read x_i. After x_t, the cache gives a token w the probability

    p_cache(w) ~ sum over i of [x_(i+1) = w] exp(flatness h_t . h_i)

up to a constant factor. Here i runs over the last `size` positions before t, and [...] is 1 if the
equation in it holds and otherwise 0. The cache is mixed with the prediction of the model:

    p(w) = (1 - weight) p_model(w) + weight p_cache(w)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from charlm.config.protocols import CacheConfig


class NeuralCache:
    """A cache of the features of the last tokens of a text, with the token that followed each.

    Args:
        size: The largest number of tokens that the cache holds.
        vocab_size: Tokens of the vocabulary.
    """

    def __init__(self, size: int, vocab_size: int) -> None:
        self.size = size
        self.vocab_size = vocab_size
        self.reset()

    def reset(self) -> None:
        """Empty the cache, as is necessary before the first token of an item."""
        self._keys: Tensor | None = None  # (kept, hidden)
        self._next = torch.zeros(0, dtype=torch.long)  # (kept,)

    def similarities(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compare the features of some tokens with those in the cache, then add them to the cache.

        Args:
            features: (time, hidden) the features of the next tokens of the text.
            targets: (time,) for each of these tokens, the token that follows it.

        Returns:
            The dot products of the features of each token with those at each place, (time, places),
            and the token that followed at each place, (places,). The places are those in the cache
            and, after them, those of the `time` new tokens. A dot product is -inf unless the place
            is one of the last `size` before the token.
        """
        time = len(features)
        keys = features if self._keys is None else torch.cat([self._keys, features])
        following = torch.cat([self._next.to(targets.device), targets])
        kept = len(keys) - time
        places, rows = torch.arange(len(keys), device=keys.device), torch.arange(time, device=keys.device)[:, None]
        inside = (places < rows + kept) & (places >= rows + kept - self.size)
        products = (features.double() @ keys.double().T).masked_fill(~inside, -math.inf)
        self._keys, self._next = keys[-self.size :], following[-self.size :]
        return products, following

    def mixed(self, log_probabilities: Tensor, products: Tensor, following: Tensor, config: CacheConfig) -> Tensor:
        """Mix the predictions of the model with those of the cache.

        While the cache is empty, the predictions are those of the model.

        Args:
            log_probabilities: (time, vocab_size) the predictions of the model.
            products, following: What `similarities` returned for the same tokens.
            config: The flatness and the weight of the cache.

        Returns:
            The log-probabilities of the mixture, (time, vocab_size).
        """
        flatness, weight = config.flatness, config.weight
        shares = cache_shares(products, flatness)
        cached = shares.new_zeros(len(shares), self.vocab_size).index_add_(1, following, shares)
        mixture = (1 - weight) * log_probabilities.double().exp() + weight * cached
        empty = torch.isinf(products).all(1, keepdim=True)
        return torch.where(empty, log_probabilities.double(), mixture.log())


def cache_shares(products: Tensor, flatness: float) -> Tensor:
    """Return how much each place in the cache contributes to each prediction, (time, places).

    The contributions to a prediction add up to 1; they are all 0 if the cache is empty.

    Args:
        products: (time, places) the dot products that `NeuralCache.similarities` returns.
        flatness: The factor by which the dot products are multiplied.
    """
    scaled = torch.where(products.isinf(), products, products * flatness)  # 0 * inf is not a number
    return torch.nan_to_num(torch.softmax(scaled, 1), nan=0.0)
