"""Attribution: which of several models finds a text most probable (no torch here).

With labels this is classification by language models: the class of a text is the model with the highest likelihood
(with a uniform prior, Bayes' rule).
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
    """Raise CharlmError unless all runs have the same vocabulary, so that their tokens can be compared one by one.

    Args:
        tokenizers: That of each run, by its name.
    """
    _check_equal(
        tokenizers,
        lambda one: (one.kind, one.tokens),
        "vocabulary",
        "their tokens cannot be compared; name runs that were trained on the same text",
    )


def check_comparable(tokenizers: Mapping[str, Tokenizer]) -> None:
    """Raise CharlmError unless the likelihoods of a text by all runs can be compared.

    The vocabularies may differ in their tokens, not in their kind: a model of words that predicts one symbol for
    every unknown word cannot be compared with one that spells it.

    Args:
        tokenizers: That of each run, by its name.
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
    """What each model pays for an unknown token, besides the probability of the unknown symbol.

    The symbol stands for every token of the other vocabularies that the model lacks, and for one that all of them lack;
    its probability is shared equally among these. Else the model that knows least would win.

    Returns:
        Nats of each model.
    """
    every = set().union(*(tokenizer.tokens for tokenizer in tokenizers))
    return [math.log(len(every) - len(set(tokenizer.tokens)) + 1) for tokenizer in tokenizers]


@dataclass(frozen=True)
class Attribution:
    """The likelihoods of some texts by some models.

    Attributes:
        models: Their names.
        nats: (texts, models) -ln p of each text.
        labels: The true model of each text, if known.
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
        """(texts,) the model with the highest likelihood."""
        return self.nats.argmin(1)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(texts, models) p(model | text), if all models are equally probable beforehand."""
        relative = np.exp(self.nats.min(1, keepdims=True) - self.nats)
        return relative / relative.sum(1, keepdims=True)

    @property
    def accuracy(self) -> float:
        """The fraction of texts whose label is the best model."""
        return sum(table[label] for label, table in self.confusion.items()) / len(self.nats)

    @property
    def confusion(self) -> dict[str, Counter[str]]:
        """The confusion table: for each label that occurs, the number of its texts that go to each model."""
        assert self.labels is not None
        table: dict[str, Counter[str]] = {name: Counter() for name in self.models if name in set(self.labels)}
        for label, best in zip(self.labels, self.best.tolist(), strict=True):
            table[label][self.models[best]] += 1
        return table
