"""A neural cache: tokens that followed similar features a short time ago become more probable (Grave et al. 2017).

With the features h_1 ... h_t of a text and its tokens x_1 ... x_t, the cache predicts

    p_cache(w) ~ sum over i of [x_(i+1) = w] exp(flatness h_t . h_i)

for the last `size` places i before t, and is mixed with the model: p = (1 - weight) p_model + weight p_cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from charlm.config.protocols import CacheConfig


class NeuralCache:
    """The features of the last tokens, and the token that followed each.

    Args:
        size: Most tokens that the cache holds.
        vocab_size: Tokens of the vocabulary.
    """

    def __init__(self, size: int, vocab_size: int) -> None:
        self.size = size
        self.vocab_size = vocab_size
        self.reset()

    def reset(self) -> None:
        """Forget everything, as before the first token of an item."""
        self._keys: Tensor | None = None  # (kept, hidden)
        self._next = torch.zeros(0, dtype=torch.long)  # (kept,)

    def similarities(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Read a part of a text.

        Args:
            features: (time, hidden).
            targets: (time,), the token after each.

        Returns:
            The dot products of each of the features with those of the tokens before it, (time, places), -inf for places
            that are not in the cache; and the token that followed each place, (places,).
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
        """The log-probabilities of the model (time, vocab_size) mixed with those of the cache.

        Args:
            log_probabilities: Those of the model.
            products, following: As `similarities` returns them.
            config: Flatness and weight. While the cache is empty, the model predicts alone.
        """
        flatness, weight = config.flatness, config.weight
        shares = cache_shares(products, flatness)
        cached = shares.new_zeros(len(shares), self.vocab_size).index_add_(1, following, shares)
        mixture = (1 - weight) * log_probabilities.double().exp() + weight * cached
        empty = torch.isinf(products).all(1, keepdim=True)
        return torch.where(empty, log_probabilities.double(), mixture.log())


def cache_shares(products: Tensor, flatness: float) -> Tensor:
    """The weight of each place in the cache, (time, places), which add up to 1; all 0 for an empty cache."""
    scaled = torch.where(products.isinf(), products, products * flatness)  # 0 * inf is not a number
    return torch.nan_to_num(torch.softmax(scaled, 1), nan=0.0)
