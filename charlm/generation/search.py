"""Beam search: `BeamSearch` looks for the most probable texts, where `Generation` draws texts at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.generation import GenerationConfig
from charlm.generation.generated_text import Alternatives, GeneratedText, Row, most_probable
from charlm.generation.processors import log_probabilities
from charlm.generation.prompts import Prompts
from charlm.generation.sampling import Sampler, finite
from charlm.generation.stepper import Stepper

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class BeamSearch:
    """A search for the most probable continuations of prompts.

    For each prompt, `config.beams` hypotheses are kept. At each step, every hypothesis that has not
    ended is continued by every token. Of these continuations and the hypotheses that have ended,
    those with the highest scores are kept. The search ends when all that are kept have ended. The
    score is log p / tokens ** `length_penalty` (Wu et al. 2016). p is the probability of the text
    in the distribution from which tokens would be drawn, that is, after all logits processors.

    With `config.beam_groups`, the hypotheses are divided into groups, which choose one after the
    other (diverse beam search, Vijayakumar et al. 2016). When a group chooses, log p of a
    continuation is lowered by `diversity_penalty` for each hypothesis of the groups before it that
    was continued by the same token at this step; it stays lower.

    A processor that reads random numbers gets the same one for all hypotheses of a prompt, so that
    they are compared under one distribution. It depends on the seed and the step only.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        prompts: The texts to continue.
        config: The search, where the texts end, and the seed of the first prompt; each further
            prompt has the next seed. `config.samples` and `config.dedupe` are not used here.
        values: Values of logits processors and their parameters by name.

    Raises:
        CharlmError: as for `Generation`.
    """

    def __init__(
        self, stepper: Stepper, tokenizer: Tokenizer, prompts: Sequence[str], config: GenerationConfig, **values: Any
    ) -> None:
        self._stepper, self._tokenizer, self._config = stepper, tokenizer, config
        self._prompts = Prompts(tokenizer, prompts)
        self._sampler = Sampler(config.seed, len(prompts), tokenizer, **values)
        self._starts = [self._row(prompt) for prompt in range(len(prompts))]  # a wrong stop string is an error at once
        self._watched = bool(config.stop or config.lines or config.sentences)  # an end depends on the text
        self._rows: dict[int, Row] = {}  # if watched: the text of each hypothesis that has not ended, by its place

    def run(self, progress: Callable[[int], None] = lambda step: None) -> list[Iterator[GeneratedText]]:
        """Search, and return the texts of each prompt with their tokens.

        The best text of each group comes first, in the order of their scores, then the second best
        of each group, and so on. There are fewer than `config.beams` if no more are possible.

        Args:
            progress: A function that is told the number of each step, counted from 0.
        """
        config, stepper, sampler, prompts = self._config, self._stepper, self._sampler, len(self._starts)
        beams, tree = _Beams(prompts, config, len(self._tokenizer)), _Tree(config.alternatives)
        if config.length:
            logits, state = self._prompts.read(stepper)
            sampler.start(self._prompts.ids)
            rows = np.repeat(np.arange(prompts), config.beam_groups)  # each group starts with one hypothesis
            if self._watched:
                self._rows = {place: self._starts[row] for place, row in zip(beams.live.tolist(), rows, strict=True)}
            logits, state = logits[rows], stepper.select(state, rows)
            sampler.select(rows)
        for step in range(config.length):
            progress(step)
            own = log_probabilities(finite(logits))
            log_p = log_probabilities(sampler.processed(logits)) if sampler.changes else own
            rows, ids, origins = beams.extend(log_p)
            beams.node[beams.live] = tree.add(beams.node[beams.live], rows, ids, own)
            going = ~self._ended(origins, beams.live, ids)
            beams.live, rows, ids = beams.live[going], rows[going], ids[going]
            if step == config.length - 1 or not len(rows):
                break
            sampler.select(rows)
            sampler.take(ids, logits[rows])
            logits, state = stepper.step(ids, stepper.select(state, rows))
        return [self._texts(prompt, nodes, tree) for prompt, nodes in enumerate(beams.ranked())]

    def _row(self, prompt: int) -> Row:
        text = GeneratedText(self._prompts.texts[prompt], self._config.seed + prompt)
        return Row(self._tokenizer, text, self._config, self._prompts.blanks[prompt])

    def _ended(self, origins: Integers, places: Integers, ids: Integers) -> NDArray[np.bool_]:
        """Return whether each continued hypothesis ends with its last token.

        Args:
            origins, places: The places of the hypotheses in the beams before and after this step.
            ids: Their last tokens.
        """
        if not self._watched:
            return ids == (-1 if self._tokenizer.boundary is None else self._tokenizer.boundary)
        self._rows = {
            place: self._rows[origin].copy() for place, origin in zip(places.tolist(), origins.tolist(), strict=True)
        }
        for row, id in zip(self._rows.values(), ids.tolist(), strict=True):
            row.push(id)
        return np.array([row.ended for row in self._rows.values()], bool)

    def _texts(self, prompt: int, nodes: list[int], tree: _Tree) -> Iterator[GeneratedText]:
        """Yield the hypotheses of a prompt as texts, given their last tokens in the tree."""
        for node in nodes:
            row = self._row(prompt)
            for id, log_p, alternatives in tree.path(node):
                row.record(id, log_p, alternatives)
                row.push(id)
            row.flush()
            yield row.text


class _Beams:
    """The hypotheses of all prompts; each has a place, ordered by prompt, group and score.

    Attributes:
        node: The last token of each hypothesis, as its number in the tree; -1 before the first one.
        live: The places of the hypotheses that can be continued, in the order of their rows. The
            search leaves out those that have ended.
    """

    def __init__(self, prompts: int, config: GenerationConfig, vocab_size: int) -> None:
        self._config, self._vocab_size = config, vocab_size
        self._shape = prompts, config.beam_groups, max(1, config.beams) // config.beam_groups
        places = np.arange(np.prod(self._shape)).reshape(self._shape)
        self.live: Integers = places[:, :, 0].ravel()
        self.node: Integers = np.full(places.size, -1)
        self._score = np.full(places.size, -np.inf)  # of places without a hypothesis
        self._score[self.live] = 0
        self._divisor = 1.0  # of the scores of live hypotheses
        self._tokens = 0

    def extend(self, log_p: Floats) -> tuple[Integers, Integers, Integers]:
        """Replace the hypotheses by the best of their continuations and of those that have ended.

        Afterwards `live` has the places of the hypotheses that were continued. They are of the
        same order as the results.

        Args:
            log_p: The log probability of each token after each hypothesis, (rows, vocab_size).

        Returns:
            The rows of the hypotheses that were continued, the tokens by which they were continued,
            and the places where they were before.
        """
        live, columns, before = self.live, self._vocab_size + 1, self._divisor
        self._tokens += 1
        self._divisor = self._tokens**self._config.length_penalty
        scores = np.full((len(self.node), columns), -np.inf)
        scores[:, -1] = self._score  # of a hypothesis that stays as it is
        scores[live, -1] = -np.inf
        scores[live, :-1] = (self._score[live, None] * before + log_p) / self._divisor
        chosen = self._choose(scores)
        origins, ids = np.divmod(chosen, columns)
        self._score = scores.ravel()[chosen]
        row_of = np.zeros_like(self.node)
        row_of[live] = np.arange(len(live))
        self.live = np.flatnonzero((ids < self._vocab_size) & (self._score > -np.inf))
        self.node = self.node[origins]
        return row_of[origins[self.live]], ids[self.live], origins[self.live]

    def ranked(self) -> list[list[int]]:
        """Return the last tokens of each prompt's hypotheses, ranked as `BeamSearch.run` says."""
        score, node = self._score.reshape(self._shape), self.node.reshape(self._shape)
        order = np.argsort(-score, 1, kind="stable")  # of the groups, for each rank in a group
        score, node = (np.take_along_axis(one, order, 1).swapaxes(1, 2) for one in (score, node))
        return [nodes[scores > -np.inf].tolist() for scores, nodes in zip(score, node, strict=True)]

    def _choose(self, scores: Floats) -> Integers:
        """Return the chosen entries of the scores, by their number in the whole array.

        Args:
            scores: Scores (places, vocab_size + 1); those of groups after the first are lowered.
        """
        prompts, groups, size = self._shape
        entries = size * scores.shape[1]  # of one group
        if groups == 1:
            own = scores.reshape(prompts, entries)
            return (highest(own, size) + entries * np.arange(prompts)[:, None]).ravel()
        blocks = scores.reshape(prompts, groups, size, -1)
        used = np.zeros((prompts, scores.shape[1]))  # how often each token was chosen at this step
        chosen = np.empty(self._shape, np.int64)
        penalty = self._config.diversity_penalty / self._divisor
        for group in range(groups):
            blocks[:, group] -= penalty * used[:, None]
            own = blocks[:, group].reshape(prompts, entries)
            best = highest(own, size)
            chosen[:, group] = best + entries * (groups * np.arange(prompts)[:, None] + group)
            rows = np.arange(prompts)[:, None]
            np.add.at(used, (rows, best % scores.shape[1]), own[rows, best] > -np.inf)
            used[:, -1] = 0  # a hypothesis that has ended has no token at this step
        return chosen.ravel()


class _Tree:
    """The tokens of all hypotheses; each has a number, and the number of the token before it.

    Args:
        alternatives: How many of the most probable tokens are kept for each place.
    """

    def __init__(self, alternatives: int) -> None:
        self._alternatives, self._size = alternatives, 0
        self._parents: list[Integers] = []
        self._ids: list[Integers] = []
        self._log_p: list[Floats] = []
        self._others: list[Alternatives] = []

    def add(self, parents: Integers, rows: Integers, ids: Integers, log_p: Floats) -> Integers:
        """Add a token to each of some hypotheses and return the numbers of these tokens.

        Args:
            parents: The numbers of the tokens before them.
            rows: The rows of the hypotheses before this step.
            ids: The tokens.
            log_p: The model's own log probability of each token, (rows, vocab_size).
        """
        self._parents.append(parents)
        self._ids.append(ids)
        self._log_p.append(log_p[rows, ids])
        if self._alternatives:
            others = most_probable(log_p, self._alternatives)
            self._others += [others[row] for row in rows.tolist()]
        self._size += len(ids)
        return np.arange(self._size - len(ids), self._size)

    def path(self, node: int) -> list[tuple[int, float, Alternatives]]:
        """Return the tokens of a hypothesis with their log probabilities and alternatives, given the last one."""
        parents, ids, log_p, others = self._all
        path = []
        while node >= 0:
            path.append((ids[node], log_p[node], others[node] if others else []))
            node = parents[node]
        return path[::-1]

    @cached_property
    def _all(self) -> tuple[list[int], list[int], list[float], list[Alternatives]]:
        """The parent, id, log probability and alternatives of each token, once the search has ended."""
        parents, ids, log_p = (
            [number for part in parts for number in part.tolist()] for parts in (self._parents, self._ids, self._log_p)
        )
        return parents, ids, log_p, self._others


def highest(values: Floats, count: int) -> Integers:
    """Return the places of the highest values of each row, (rows, count), in falling order, the first of equals first.

    Args:
        values: The values, (rows, columns).
        count: How many are wanted, at most the number of columns.
    """
    threshold = np.partition(values, -count)[:, -count, None]
    kept = values >= threshold
    if np.count_nonzero(kept) > count * len(values):  # of those that equal the lowest, the first ones
        above = values > threshold
        ties = kept & ~above
        kept = above | (ties & (ties.cumsum(-1) <= count - above.sum(-1, keepdims=True)))
    rows, places = np.nonzero(kept)
    return places[np.lexsort((-values[rows, places], rows))].reshape(-1, count)
