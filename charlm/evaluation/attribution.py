"""Attribution: which of several models gives a text the highest probability.

Attribution is classification by language models: the class of a text is the model with the highest
likelihood. This is Bayes' rule with a uniform prior. If the true model of each text (its label) is
known, the accuracy is computed as well. This module does not use torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CharlmError, count, nearest
from charlm.text.tokenization import Tokenizer


def check_same_vocabulary(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Raise CharlmError unless all runs have the same vocabulary and kind of tokenizer.

    Only such runs can be compared token by token.

    Args:
        tokenizers: The tokenizer of each run, by the name of the run.
    """
    _check_equal(
        tokenizers,
        lambda one: (one.kind, one.tokens),
        "vocabulary",
        "their tokens cannot be compared; name runs that were trained on the same text",
    )


def check_comparable(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Raise CharlmError unless the likelihoods of a text can be compared between all runs.

    The runs may have different tokens, but they need the same kind of tokenizer and the same value
    of its attribute `lowercase`. For example, a model of words that predicts one symbol for every
    unknown word cannot be compared with a model of characters, which spells such a word.

    Args:
        tokenizers: The tokenizer of each run, by the name of the run.
    """
    _check_equal(
        tokenizers,
        lambda one: (one.kind, one.lowercase),
        "tokenizer",
        "their likelihoods of a text cannot be compared; name runs with the same `tokenizer.kind`",
    )


def _check_equal(
    tokenizers: Mapping[str, Tokenizer], key: Callable[[Tokenizer], Any], what: str, consequence: str
) -> None:
    (first, reference), *others = tokenizers.items()
    for name, tokenizer in others:
        if key(tokenizer) != key(reference):
            raise CharlmError(
                f"{name} has another {what} ({_described(tokenizer)}) than {first} ({_described(reference)}), so "
                f"{consequence}"
            )


def _described(tokenizer: Tokenizer) -> str:
    case = ", lower case" if tokenizer.lowercase else ""
    return f"{tokenizer.kind}{case}, {len(tokenizer):,} tokens"


def nats_of_unknown(tokenizers: Sequence[Tokenizer]) -> list[float]:
    """Return, for each model, the nats to add to its loss for every token that it does not know.

    A model predicts the same symbol for all tokens that it does not know. The symbol is taken to
    stand for every token that another model knows and this one does not, and for one more token
    that no model knows. The probability of the symbol is divided equally among these tokens.
    Without this, a model would gain from a smaller vocabulary.

    Args:
        tokenizers: The tokenizer of each model.
    """
    every = set().union(*(tokenizer.tokens for tokenizer in tokenizers))
    return [math.log(len(every) - len(set(tokenizer.tokens)) + 1) for tokenizer in tokenizers]


@dataclass(frozen=True)
class Attribution:
    """The likelihoods of several texts under several models.

    Attributes:
        models: The names of the models.
        nats: (texts, models) -ln p of each text under each model.
        labels: The name of the true model of each text; None if it is not known.
    """

    models: Sequence[str]
    nats: NDArray[np.float64]
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.labels is None:
            return
        if len(self.labels) != len(self.nats):
            raise CharlmError(
                f"there {'is' if len(self.labels) == 1 else 'are'} {count(len(self.labels), 'label')} for "
                f"{count(len(self.nats), 'text')}; name one for each"
            )
        for number, label in enumerate(self.labels, 1):
            if label not in self.models:
                hint = nearest(label, list(self.models))
                known = ", ".join(self.models)
                raise CharlmError(f"label {number} is {label!r}, and no run has this name{hint}; the runs are {known}")

    @property
    def best(self) -> NDArray[np.int64]:
        """The index of the model with the highest likelihood for each text, (texts,)."""
        return self.nats.argmin(1)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probability p(model | text) with a uniform prior over the models, (texts, models)."""
        relative = np.exp(self.nats.min(1, keepdims=True) - self.nats)
        return relative / relative.sum(1, keepdims=True)

    @property
    def accuracy(self) -> float:
        """The fraction of texts for which the best model is the one that the label names."""
        return sum(table[label] for label, table in self.confusion.items()) / len(self.nats)

    @property
    def confusion(self) -> dict[str, Counter[str]]:
        """The confusion table: the number of texts by label, and by the name of the best model."""
        assert self.labels is not None
        table: dict[str, Counter[str]] = {name: Counter() for name in self.models if name in set(self.labels)}
        for label, best in zip(self.labels, self.best.tolist(), strict=True):
            table[label][self.models[best]] += 1
        return table
