"""The changes of `mutants.py`: mistakes that a person could make, each of which a test must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A small change of the code.

    Args:
        name: What is wrong with the changed code, in plain words.
        file: The file that is changed.
        text: What is replaced; it occurs once in the file.
        replacement: What it is replaced by.
        tests: Test files, or tests of them, that most likely notice the change; none: the file that mirrors `file`.
        reason: Why no test can notice the change, where none does.
    """

    name: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...] = ()
    reason: str = ""

    @property
    def package(self) -> str:
        """The package of the file, or the name of a module that is in none."""
        first = self.file.split("/")[1].removesuffix(".py")
        return {"run_directory": "run"}.get(first, first)


CELLS = ("tests/network/test_cells.py",)
DEFINITION = ("tests/training/test_module.py::test_a_training_is_its_definition",)
SPEED = ("tests/training/test_module.py::test_the_speed_is_that_of_training_alone",)
PATIENCE = ("tests/training/test_module.py::test_patience",)
RECOVERY = ("tests/training/test_recovery.py::test_after_a_divergence_the_run_recovers_with_a_lower_rate",)
PROTOCOLS = ("tests/evaluation/test_protocols.py",)
RESUME = ("tests/training/test_resume.py::test_resumed_is_unbroken",)
CHECKPOINTS = ("tests/test_run.py::test_each_checkpoint_has_its_own_weights",)

# fmt: off
MUTANTS = [
    # -- text
    Mutant(
        "lanes start one token late", "charlm/text/batching.py",
        "starts = np.arange(self.batch_size) * self.length\n",
        "starts = np.arange(self.batch_size) * self.length + 1\n",
    ),
    Mutant(
        "the targets of lanes are their inputs", "charlm/text/batching.py",
        "inputs, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()",
        "inputs, targets = window[:, :-1].contiguous(), window[:, :-1].clone()",
    ),
    Mutant(
        "lanes are reset where they should not be, and the other way round", "charlm/text/batching.py",
        "[self.rows] < probability)",
        "[self.rows] >= probability)",
    ),
    Mutant(
        "the reset mask is inverted where it is applied", "charlm/text/batching.py",
        "state.masked_fill(self.reset_mask[:, None], 0.0)",
        "state.masked_fill(~self.reset_mask[:, None], 0.0)",
    ),
    Mutant(
        "the seed of the resets is ignored", "charlm/text/batching.py",
        "[self.seed, self.epoch, number]",
        "[self.epoch, number]",
    ),
    Mutant(
        "items have the same order in every epoch", "charlm/text/batching.py",
        "np.random.default_rng([self.seed, self.epoch])\n",
        "np.random.default_rng([self.seed])\n",
    ),
    Mutant(
        "the padding of items counts as targets", "charlm/text/batching.py",
        "window == 0), int(counts.sum()) / self.world_size)",
        "window == 0), time * rows)",
    ),
    Mutant(
        "the padding of items is predicted", "charlm/text/batching.py",
        "inputs[padding], targets[padding] = 0, IGNORED",
        "inputs[padding] = 0",
    ),
    Mutant(
        "a resumed pass over the text starts at its first batch", "charlm/text/batching.py",
        'self.position = self._next_start = state["position"]',
        'self.position, self._next_start = state["position"], 0',
    ),
    Mutant(
        "a batch is counted after it was used", "charlm/text/batching.py",
        "self.position += 1\n            yield batch",
        "yield batch\n            self.position += 1",
    ),
    Mutant(
        "the end of a shorter lane is predicted in evaluation", "charlm/text/batching.py",
        "np.arange(time) >= counts[self.rows, None]",
        "np.arange(time) > counts[self.rows, None]",
    ),
    Mutant(
        "the byte-order mark of UTF-32 is taken for that of UTF-16", "charlm/text/encodings.py",
        '    codecs.BOM_UTF32_LE: "utf-32-le",\n',
        "",
    ),
    Mutant(
        "the byte-order mark becomes a character of the text", "charlm/text/sources.py",
        'text, at_start = text.removeprefix("\\ufeff"), False',
        "at_start = False",
    ),
    Mutant(
        "CR LF that is cut by the end of a piece stays", "charlm/text/corpus.py",
        'rest = "\\r" if text.endswith("\\r") else ""',
        'rest = ""',
    ),
    Mutant(
        "`data.newlines` keep is ignored", "charlm/text/corpus.py",
        'if self.newlines == "lf":\n                text = with_unix_newlines',
        "if self.newlines:\n                text = with_unix_newlines",
    ),
    Mutant(
        "the validation text contains the training text", "charlm/text/corpus.py",
        '"val": (first, second)',
        '"val": (0, second)',
    ),
    Mutant(
        "the vocabulary is learned from the validation text", "charlm/text/store.py",
        'corpus.blocks("train"), "learning the vocabulary"',
        'corpus.blocks("val"), "learning the vocabulary"',
    ),
    Mutant(
        "the checksums of cached tokens are not compared", "charlm/text/store.py",
        'return all(checksum(entry / name) == value for name, value in facts["checksums"].items())',
        "return True",
    ),
    Mutant(
        "a vocabulary of limited size keeps the rarest characters", "charlm/text/tokenizers/words.py",
        "np.argsort(-counts[known]",
        "np.argsort(counts[known]",
        ("tests/text/test_tokenizer_kinds.py", "tests/text/test_tokenization.py"),
    ),
    Mutant(
        "bytes that are no character vanish", "charlm/text/tokenizers/bytes.py",
        'codecs.getincrementaldecoder("utf-8")(errors="replace")',
        'codecs.getincrementaldecoder("utf-8")(errors="ignore")',
        ("tests/text/test_tokenizer_kinds.py", "tests/text/test_tokenization.py"),
    ),
    Mutant(
        "characters of four bytes are counted as three", "charlm/text/stream.py",
        "(0x80, 0x800, 0x10000)",
        "(0x80, 0x800)",
    ),
    Mutant(
        "the first token counts as predicted", "charlm/text/stream.py",
        '"predicted": self.counts - self._first_token',
        '"predicted": self.counts',
    ),
    Mutant(
        "line ends do not count as words", "charlm/text/stream.py",
        "words += int(np.count_nonzero(classes == LINE_END))",
        "words += 0",
    ),
    Mutant(
        "each unknown piece is counted once", "charlm/text/stream.py",
        "self._unknown_tokens += sum(found.values())",
        "self._unknown_tokens += len(found)",
    ),
    Mutant(
        "ids are stored in a type that is too small", "charlm/text/stream.py",
        "np.min_scalar_type(max(vocab_size - 1, 0))",
        "np.min_scalar_type(max(vocab_size // 2, 0))",
    ),
    Mutant(
        "lines lose their last blanks", "charlm/text/items.py",
        'line.rstrip("\\r\\n") for line',
        "line.rstrip() for line",
    ),
    Mutant(
        "empty cells of a table become items", "charlm/text/tables.py",
        "(value for value in found if value.strip())",
        "(value for value in found)",
    ),
    Mutant(
        "the cache deletes what was used lately and keeps the rest", "charlm/text/cache.py",
        "entry.stat().st_mtime < oldest",
        "entry.stat().st_mtime > oldest",
    ),
    Mutant(
        "lower case is forgotten when a vocabulary is loaded", "charlm/text/tokenization.py",
        'self.lowercase = "Lowercase" in json.dumps(state["normalizer"])',
        "self.lowercase = False",
        ("tests/text/test_tokenization.py", "tests/text/test_tokenizer_kinds.py"),
    ),
    # -- network
    Mutant(
        "lstm: input and forget gate are swapped", "charlm/network/cells/lstm.py",
        "i, j, g, o = f.split(x + w.U(h), 4)\n        c = f.sigmoid(j) * c",
        "j, i, g, o = f.split(x + w.U(h), 4)\n        c = f.sigmoid(j) * c", CELLS,
    ),
    Mutant(
        "lstm_1997: the candidate lacks its tanh", "charlm/network/cells/lstm.py",
        "c = c + f.sigmoid(i) * f.tanh(g)",
        "c = c + f.sigmoid(i) * g", CELLS,
    ),
    Mutant(
        "lstm_peephole: the output gate reads the memory before the step", "charlm/network/cells/lstm.py",
        "c = f.sigmoid(j + w.p_j * c) * c + f.sigmoid(i + w.p_i * c) * f.tanh(g)\n"
        "        return f.sigmoid(o + w.p_o * c) * f.tanh(c), c",
        "new = f.sigmoid(j + w.p_j * c) * c + f.sigmoid(i + w.p_i * c) * f.tanh(g)\n"
        "        return f.sigmoid(o + w.p_o * c) * f.tanh(new), new", CELLS,
    ),
    Mutant(
        "lstm_coupled: the forget gate lets new input in", "charlm/network/cells/lstm.py",
        "c = g + f.sigmoid(j) * (c - g)",
        "c = c + f.sigmoid(j) * (g - c)", CELLS,
    ),
    Mutant(
        "lstm_layernorm: the memory is not normalised", "charlm/network/cells/lstm.py",
        "f.tanh(f.norm(c, w.memory_gain, w.memory_bias)), c",
        "f.tanh(c), c", CELLS,
    ),
    Mutant(
        "mogrifier: the third round uses the matrix of the first", "charlm/network/cells/mogrifier.py",
        "f.sigmoid(w.Q2(h))",
        "f.sigmoid(w.Q(h))", CELLS,
    ),
    Mutant(
        "rnn: a sigmoid in place of the tanh", "charlm/network/cells/elman.py",
        "f.tanh(x + w.U(h))",
        "f.sigmoid(x + w.U(h))", CELLS,
    ),
    Mutant(
        "rnn_relu: only the input is rectified", "charlm/network/cells/elman.py",
        "f.relu(x + w.U(h))",
        "f.relu(x) + w.U(h)", CELLS,
    ),
    Mutant(
        "gru: the update gate is inverted", "charlm/network/cells/gru.py",
        "w.b_u))\n        return (g + z * (h - g),)",
        "w.b_u))\n        return (h + z * (g - h),)", CELLS,
    ),
    Mutant(
        "gru_cho: the reset gate acts after the recurrent product", "charlm/network/cells/gru.py",
        "w.V(r * h)",
        "r * w.V(h)", CELLS,
    ),
    Mutant(
        "min_gru: the candidate is not scaled by the gate", "charlm/network/cells/linear.py",
        "return z, g - z * g",
        "return z, g", CELLS,
    ),
    Mutant(
        "min_lstm: the input gate keeps the past", "charlm/network/cells/linear.py",
        "a = j / (i + j)",
        "a = i / (i + j)", CELLS,
    ),
    Mutant(
        "rglru: the input is scaled by 1 - a", "charlm/network/cells/linear.py",
        "f.sqrt(1.000001 - a * a)",
        "f.sqrt(1.000001 - a)", CELLS,
    ),
    Mutant(
        "the formula of the number of parameters leaves out vectors", "charlm/network/cells/__init__.py",
        '(self.gates + sum(self.vectors.values()), "n")',
        '(self.gates, "n")', CELLS,
    ),
    Mutant(
        "zoneout keeps what it should replace", "charlm/network/cells/__init__.py",
        "old + update_mask() * (new - old)",
        "new + update_mask() * (old - new)", ("tests/network/test_layer.py",),
    ),
    Mutant(
        "recurrent weights are dropped in evaluation", "charlm/network/layer.py",
        "F.dropout(matrix, self.weight_drop, self.training)",
        "F.dropout(matrix, self.weight_drop, True)",
    ),
    Mutant(
        "a layer returns its state in the precision of its products", "charlm/network/layer.py",
        "return outputs, state.to(torch.float64 if double else torch.float32)",
        "return outputs, state", ("tests/network/test_layer.py", "tests/network/test_model.py"),
    ),
    Mutant(
        "dropout is active in evaluation", "charlm/network/model.py",
        "return self.dropout(y), new",
        "return F.dropout(y, self.config.dropout), new",
    ),
    Mutant(
        "a model is in training mode after an evaluation", "charlm/network/model.py",
        "model.train(training)",
        "model.train()", ("tests/network/test_model.py::test_a_model_is_in_its_former_mode_after_an_evaluation",),
    ),
    Mutant(
        "a tied matrix learns as embedding only", "charlm/network/model.py",
        "weight = self.embedding.weight if self.config.tie",
        "weight = self.embedding.weight.detach() if self.config.tie",
        ("tests/network/test_model.py::test_a_tied_matrix_learns_as_embedding_and_as_output",),
    ),
    Mutant(
        "a token that never occurs is impossible at the start", "charlm/network/model.py",
        "smoothed = counts.double() + 0.5",
        "smoothed = counts.double()", ("tests/network/test_output_bias.py",),
    ),
    Mutant(
        "residual connections start at the first layer", "charlm/network/recurrence.py",
        "x + y if residual and index else y",
        "x + y if residual else y",
    ),
    Mutant(
        "only the second lane of a text is read again", "charlm/network/recurrence.py",
        "row for row in range(1, lanes) if",
        "row for row in range(1, 2) if",
    ),
    Mutant(
        "lanes of a text are not read again from the state before them", "charlm/network/recurrence.py",
        "while rows := [row for row in range(1, lanes) if _differ(last[:, :, row - 1], first[:, :, row])]:",
        "while rows := []:",
    ),
    Mutant(
        "a lane that is read again keeps its old end", "charlm/network/recurrence.py",
        "            before[number + 1][:, :, rows] = now\n",
        "",
    ),
    Mutant(
        "windows that are read again count twice", "charlm/evaluation/likelihood.py",
        "sums[numbers] = self._nats",
        "sums[numbers] += self._nats",
    ),
    Mutant(
        "the gradient of a recurrent matrix is that of one time step", "charlm/network/deferred_linear.py",
        "ctx.pending[ctx.call] = x, gradient",
        "ctx.pending[0] = x, gradient",
    ),
    Mutant(
        "a scan does not scale the gradient of its start", "charlm/network/scan.py",
        "return g * before, g, a[0] * g[0], None",
        "return g * before, g, g[0], None",
    ),
    Mutant(
        "the parallel scan reaches too little far", "charlm/network/scan.py",
        "reach *= 2",
        "reach += 1",
    ),
    Mutant(
        "the loss is computed from bf16 logits", "charlm/network/loss.py",
        "return projected if projected.dtype == torch.float64 else projected.float()",
        "return projected",
    ),
    Mutant(
        "the bias of the input gate gets `model.forget_bias`", "charlm/network/initialisation.py",
        "biases[cell.forget_gate].fill_(config.forget_bias)",
        "biases[0].fill_(config.forget_bias)",
    ),
    Mutant(
        "`model.chrono` opens the input gate", "charlm/network/initialisation.py",
        "copy_(-spread)",
        "copy_(spread)",
    ),
    Mutant(
        "`model.gate_scale` scales the candidates", "charlm/network/initialisation.py",
        "if part not in cell.candidates",
        "if part in cell.candidates",
    ),
    Mutant(
        "the output bias is missing in the number of parameters", "charlm/network/summary.py",
        "(hidden + 1) * vocab_size",
        "hidden * vocab_size",
    ),
    # -- generation
    Mutant(
        "temperature: logits are multiplied", "charlm/generation/processors/temperature.py",
        "    if now >= 1e-99:\n        return shifted / now",
        "    if now >= 1e-99:\n        return shifted * now",
    ),
    Mutant(
        "top_k keeps one token more", "charlm/generation/processors/truncation.py",
        "np.partition(logits, -value)[:, -value, None]",
        "np.partition(logits, -value - 1)[:, -value - 1, None]",
    ),
    Mutant(
        "top_p keeps one token less", "charlm/generation/processors/truncation.py",
        "(sums >= value * sums[:, -1:]).argmax(-1)",
        "(sums >= value * sums[:, -1:]).argmax(-1) - 1",
    ),
    Mutant(
        "min_p: the fraction is not a logarithm", "charlm/generation/processors/truncation.py",
        "+ math.log(value)",
        "- value",
    ),
    Mutant(
        "typical_p: tokens are ordered by their probability", "charlm/generation/processors/truncation.py",
        "np.abs(log_p - mean).argsort(",
        "(-log_p).argsort(",
    ),
    Mutant(
        "xtc drops the least probable top choice as well", "charlm/generation/processors/truncation.py",
        "(log_p > least) & chosen",
        "(log_p >= least) & chosen",
    ),
    Mutant(
        "penalties look at all tokens", "charlm/generation/processors/repetition.py",
        "[:, None], ids[:, -window:]] = True",
        "[:, None], ids] = True",
    ),
    Mutant(
        "no_repeat_ngram compares one token less", "charlm/generation/processors/repetition.py",
        "_earlier_occurrences(ids, value - 1)",
        "_earlier_occurrences(ids, value - 2)",
    ),
    Mutant(
        "dry: a sequence breaker does not end a repetition", "charlm/generation/processors/repetition.py",
        " & ~breakers[before]",
        "",
    ),
    Mutant(
        "no_copy: spans within a long token are allowed", "charlm/generation/processors/copying.py",
        "if end > length:",
        "if end > 10 * length:",
        ("tests/generation/test_copying.py",),
    ),
    Mutant(
        "no_copy: a token is looked up by its first character only", "charlm/generation/processors/copying.py",
        "for end in range(1, longest + 1):",
        "for end in range(1, 2):",
        ("tests/generation/test_copying.py",),
    ),
    Mutant(
        "a banned text may be written by two tokens", "charlm/generation/processors/wording.py",
        "_beginning(_tail(tokenizer, row, longest - 1), banned)",
        'b""',
    ),
    Mutant(
        "an allowed character may begin like another", "charlm/generation/processors/wording.py",
        " and (not rest or any(one.startswith(rest) for one in encoded))",
        "",
    ),
    Mutant(
        "mirostat: the feedback has the wrong sign", "charlm/generation/processors/mirostat.py",
        "2 * value - RATE",
        "2 * value + RATE",
    ),
    Mutant(
        "the prompt is not among the tokens so far", "charlm/generation/sampling.py",
        "    sampler.start(ids)\n",
        "",
    ),
    Mutant(
        "a text has one line more than it may", "charlm/generation/generated_text.py",
        "            if not self.left:\n",
        "            if self.left < 0:\n",
    ),
    Mutant(
        "processors act in the order in which they are named", "charlm/generation/sampling.py",
        "self._processors = sorted(used, key=lambda entry: entry[0].order)",
        "self._processors = used",
    ),
    Mutant(
        "the seed of the sampler is ignored", "charlm/generation/sampling.py",
        "np.random.default_rng(seed + row)",
        "np.random.default_rng(row)",
    ),
    Mutant(
        "all rows draw the same numbers", "charlm/generation/sampling.py",
        "np.random.default_rng(seed + row)",
        "np.random.default_rng(seed)",
    ),
    Mutant(
        "a stop string is part of the text", "charlm/generation/generated_text.py",
        "self._held[: end + negative_length]",
        "self._held[:end]",
    ),
    Mutant(
        "a text goes on after the boundary of its item", "charlm/generation/generated_text.py",
        "if id == self._boundary:",
        "if id == -1:",
    ),
    Mutant(
        "a prompt with unknown tokens is accepted", "charlm/generation/prompts.py",
        "unknowns = tokenizer.unknowns(prompt)\n",
        "unknowns = tokenizer.unknowns('')\n",
    ),
    Mutant(
        "the nearest piece is one of another case", "charlm/generation/prompts.py",
        "(token.casefold() != piece.casefold(), _plain(token) != plain)",
        "(token.casefold() != piece.casefold(), _plain(token) == plain)",
    ),
    Mutant(
        "the state is kept after the end of an item", "charlm/generation/draw_text.py",
        "state[:, :, ids == tokenizer.boundary] = 0",
        "pass",
    ),
    Mutant(
        "a long prompt is read without what came before each window", "charlm/generation/stepper.py",
        "features, state = self.model.hidden(window, state)",
        "features, state = self.model.hidden(window, None if start else state)",
    ),
    Mutant(
        "dropout is active in generation", "charlm/generation/stepper.py",
        "with torch.no_grad(), evaluating(self.model):\n            if self._step is None",
        "with torch.no_grad():\n            if self._step is None",
        ("tests/generation/test_stepper.py::test_a_torch_stepper_leaves_a_model_training",),
    ),
    Mutant(
        "all groups of beams choose alike", "charlm/generation/search.py",
        "blocks[:, group] -= penalty * used[:, None]",
        "pass",
    ),
    Mutant(
        "a beam loses the tokens before the last one", "charlm/generation/search.py",
        "beams.node[beams.live] = tree.add(",
        "beams.node[beams.live] = 0 * tree.add(",
    ),
    Mutant(
        "hypotheses do not take their state with them", "charlm/generation/search.py",
        "stepper.step(ids, stepper.select(state, rows))",
        "stepper.step(ids, stepper.select(state, np.sort(rows)))",
    ),
    Mutant(
        "the copies of a row draw different random numbers", "charlm/generation/sampling.py",
        "np.array([drawn[generator] for generator in self._generators])",
        "np.array([generator.random() for generator in self._generators])",
    ),
    Mutant(
        "best_of keeps the least probable text", "charlm/generation/streaming.py",
        "text = max(choice,",
        "text = min(choice,",
    ),
    # -- evaluation
    Mutant(
        "the neural cache sees the token that it predicts", "charlm/evaluation/neural_cache.py",
        "(places < rows + kept)", "(places <= rows + kept)", PROTOCOLS,
    ),
    Mutant(
        "dynamic evaluation trains before it predicts", "charlm/evaluation/dynamic.py",
        "        predict(features)\n        with torch.no_grad():", "        with torch.no_grad():", PROTOCOLS,
    ),
    Mutant(
        "last_half predicts the first half of a window as well", "charlm/evaluation/spans.py",
        "np.where(number > 0, overlap, 0)", "np.zeros_like(number)", PROTOCOLS,
    ),
    Mutant(
        "an unknown token costs a run nothing more", "charlm/evaluation/attribution.py",
        "math.log(len(every) - len(set(tokenizer.tokens)) + 1)", "0.0", ("tests/evaluation/test_scores.py",),
    ),
    Mutant(
        "the bits of a token are nats", "charlm/evaluation/scores.py",
        "return self.nats / math.log(2)", "return self.nats", ("tests/cli/test_score.py",),
    ),
    Mutant(
        "bits per character are nats", "charlm/evaluation/likelihood.py",
        "return self.nats / math.log(2) / self.predicted.characters",
        "return self.nats / self.predicted.characters",
    ),
    Mutant(
        "bits per byte are bits per character", "charlm/evaluation/likelihood.py",
        "return self.nats / math.log(2) / self.predicted.bytes",
        "return self.nats / math.log(2) / self.predicted.characters",
    ),
    Mutant(
        "the perplexity is a power of 2", "charlm/evaluation/likelihood.py",
        "return _exp(self.loss)",
        "return 2**self.loss",
    ),
    Mutant(
        "the perplexity per word is that per token", "charlm/evaluation/likelihood.py",
        "max(1, self.predicted.words)",
        "max(1, self.predicted.tokens)",
    ),
    Mutant(
        "the state is not carried in evaluation", "charlm/evaluation/likelihood.py",
        "features, state = model.hidden(batch.inputs.to(device), batch.enter(state))",
        "features, _ = model.hidden(batch.inputs.to(device), batch.enter(state))",
    ),
    Mutant(
        "n-gram counts are not discounted", "charlm/evaluation/ngram.py",
        "return _Smoothed.of((counts - discounts) / totals[contexts], passed, totals)",
        "return _Smoothed.of(counts / totals[contexts], passed, totals)",
    ),
    Mutant(
        "a copied span lacks its last character", "charlm/evaluation/overlap.py",
        "steps[starts + length] -= 1",
        "steps[starts + length - 1] -= 1",
    ),
    Mutant(
        "bits by a 6-gram model are in another unit", "charlm/evaluation/text_metrics.py",
        "corpus.training.model.cross_entropy(text.characters) / math.log(2)",
        "corpus.training.model.cross_entropy(text.characters) * math.log(2)",
    ),
    Mutant(
        "the reference is compared with itself", "charlm/evaluation/text_metrics.py",
        "rest += [block[:start], block[start + length :]]",
        "rest += [block]",
    ),
    Mutant(
        "repeated n-grams are those that are different", "charlm/evaluation/text_metrics.py",
        "return 1 - len(set(runs)) / len(runs)",
        "return len(set(runs)) / len(runs)",
    ),
    Mutant(
        "over-fitting is called getting worse", "charlm/evaluation/verdict.py",
        "worse = trained[1] > trained[0] * (1 + CHANGE)",
        "worse = trained[1] < trained[0] * (1 + CHANGE)",
    ),
    Mutant(
        "a score beyond the reference is worse than the reference", "charlm/evaluation/comparison.py",
        "score, baseline = min(score, reference), min(baseline, reference)",
        "baseline = min(baseline, reference)",
    ),
    Mutant(
        "tokens per second of a cell are those of one lane", "charlm/evaluation/speed.py",
        "lanes * window / statistics.median",
        "window / statistics.median",
    ),
    # -- inspection
    Mutant(
        "open gates count as closed", "charlm/inspection/gates.py",
        "float((values < CLOSED).double().mean())",
        "float((values > CLOSED).double().mean())",
    ),
    Mutant(
        "gradients through time are in reverse order", "charlm/inspection/memory.py",
        "enumerate(reversed(gradients))",
        "enumerate(gradients)",
    ),
    Mutant(
        "the memory horizon is in nats per window", "charlm/inspection/memory.py",
        "features, targets)) / len(targets))",
        "features, targets)) / len(windows))",
    ),
    # -- training
    Mutant(
        "the state is not carried from window to window", "charlm/training/module.py",
        "batch.enter(self.state)",
        "batch.enter(None)", DEFINITION,
    ),
    Mutant(
        "the state is not detached between windows", "charlm/training/module.py",
        "self.state, self._batch = state.detach(), batch",
        "self.state, self._batch = state, batch", DEFINITION,
    ),
    Mutant(
        "the loss is divided by padding as well", "charlm/training/module.py",
        "loss = nats / batch.targets_per_process",
        "loss = nats / batch.targets.numel()", DEFINITION,
    ),
    Mutant(
        "gradients are not clipped", "charlm/training/module.py",
        "clip_gradients(self.model.parameters(), trainer.gradient_clip_val, trainer",
        "clip_gradients(self.model.parameters(), 0.0, trainer", DEFINITION,
    ),
    Mutant(
        "gradients are clipped after the step", "charlm/training/module.py",
        "trainer.gradient_clip_val, trainer.gradient_clip_algorithm)\n"
        "        assert self.state is not None\n"
        "        good = bool(torch.isfinite(self.norm + self.losses[-1] + self.state.abs().amax()))\n"
        "        if self.trainer.world_size > 1:\n"
        "            good = self.trainer.strategy.reduce_boolean_decision(good, all=True)\n"
        "        if good:\n"
        "            if scaler is not None:\n"
        "                scaler.step(raw)\n"
        "            else:\n"
        "                optimizer.step()\n",
        "0.0, trainer.gradient_clip_algorithm)\n"
        "        assert self.state is not None\n"
        "        good = bool(torch.isfinite(self.norm + self.losses[-1] + self.state.abs().amax()))\n"
        "        if self.trainer.world_size > 1:\n"
        "            good = self.trainer.strategy.reduce_boolean_decision(good, all=True)\n"
        "        if good:\n"
        "            if scaler is not None:\n"
        "                scaler.step(raw)\n"
        "            else:\n"
        "                optimizer.step()\n"
        "            self.norm = clip_gradients(\n"
        "                self.model.parameters(), trainer.gradient_clip_val, trainer.gradient_clip_algorithm\n"
        "            )\n", DEFINITION,
    ),
    Mutant(
        "a step is taken although its gradient is not finite", "charlm/training/module.py",
        "        if good:\n            if scaler",
        "        if good or scaler is None:\n            if scaler",
    ),
    Mutant(
        "the learning rate is not lowered after a divergence", "charlm/training/module.py",
        "self.optimizer_config.lr * factor * self.progress.learning_rate_factor",
        "self.optimizer_config.lr * factor", RECOVERY,
    ),
    Mutant(
        "tokens are counted in lanes", "charlm/training/module.py",
        "progress.tokens += int(batch.targets_per_process * self.trainer.world_size)",
        "progress.tokens += len(batch.targets)", DEFINITION,
    ),
    Mutant(
        "a checkpoint lacks the recurrent state", "charlm/training/module.py",
        '"state": self._all_lanes(),',
        '"state": None,', RESUME,
    ),
    Mutant(
        "random numbers start anew on resume", "charlm/training/module.py",
        'torch.set_rng_state(self._random["cpu"][rank].clone())  # torch crashes on a view',
        "pass", RESUME,
    ),
    Mutant(
        "patience is forgotten on resume", "charlm/training/progress.py",
        "stale_validations: NonNegativeInteger = 0",
        'stale_validations: NonNegativeInteger = field(default=0, metadata={"stored": False})',
        ("tests/training/test_progress.py",),
    ),
    Mutant(
        "the time before an interruption is forgotten", "charlm/training/progress.py",
        'return state | {"elapsed_before": self.elapsed}',
        "return state", ("tests/training/test_progress.py",),
    ),
    Mutant(
        "the worst validation counts as the best", "charlm/training/progress.py",
        "self.best_loss is None or loss < self.best_loss",
        "self.best_loss is None or loss > self.best_loss",
    ),
    Mutant(
        "epochs of accumulated batches are counted too long", "charlm/training/progress.py",
        "return -(-self.batches_per_epoch // self.accumulate)",
        "return self.batches_per_epoch",
    ),
    Mutant(
        "best and last weights are swapped", "charlm/training/callbacks.py",
        '                self.directory.write_weights(weights, "best")\n'
        '            self.directory.write_weights(weights, "last")',
        '                self.directory.write_weights(weights, "last")\n'
        '            self.directory.write_weights(weights, "best")', PATIENCE,
    ),
    Mutant(
        "training bits per character are per token", "charlm/training/callbacks.py",
        "loss / math.log(2) * self.tokens_per_character",
        "loss / math.log(2)",
        ("tests/training/test_run_logger.py::test_bits_per_character_of_words_are_not_those_per_token",),
    ),
    Mutant(
        "the training perplexity is a power of 2", "charlm/training/callbacks.py",
        "math.exp(loss) if loss < 700",
        "2**loss if loss < 700",
        ("tests/training/test_run_logger.py::test_training_is_logged_in_bits_a_character_and_perplexity_too",),
    ),
    Mutant(
        "tokens per second are those since the beginning", "charlm/training/callbacks.py",
        "speed = (progress.tokens - self._tokens) /",
        "speed = progress.tokens /", SPEED,
    ),
    Mutant(
        "validation counts as time of training in the speed", "charlm/training/callbacks.py",
        "training = (now - self._logged) - (progress.paused - self._paused)",
        "training = now - self._logged", SPEED,
    ),
    Mutant(
        "seconds per epoch are epochs times seconds", "charlm/training/callbacks.py",
        "seconds = (progress.elapsed - self._epoch_start[0]) /",
        "seconds = (progress.elapsed - self._epoch_start[0]) *",
        ("tests/training/test_module.py::test_an_epoch_that_was_resumed_is_timed_in_proportion",),
    ),
    Mutant(
        "training ends one validation too late", "charlm/training/callbacks.py",
        "progress.stale_validations >= progress.limits.patience",
        "progress.stale_validations > progress.limits.patience", PATIENCE,
    ),
    Mutant(
        "validation lanes are shorter than `VALIDATION_TOKENS`", "charlm/training/callbacks.py",
        "lanes = max(1, min(lanes, stream.predicted.tokens // VALIDATION_TOKENS))",
        "lanes = max(1, min(lanes, stream.predicted.tokens))",
        ("tests/training/test_validation.py::test_lanes_of_validation_are_long",),
    ),
    Mutant(
        "the optimiser keeps its state after a divergence", "charlm/training/recovery.py",
        "trainer.strategy.load_optimizer_state_dict(saved)",
        "pass", RECOVERY,
    ),
    Mutant(
        "the recurrent state of diverged weights is kept", "charlm/training/recovery.py",
        "module.state = None  # the state was computed by diverged weights",
        "pass", RECOVERY,
    ),
    Mutant(
        "a run returns to its checkpoint again and again", "charlm/training/recovery.py",
        "if progress.rollbacks:",
        "if progress.rollbacks > 9:",
        ("tests/training/test_recovery.py::test_a_diverged_run_ends_in_words_with_its_last_good_weights",),
    ),
    Mutant(
        "biases are decayed", "charlm/training/optimizers.py",
        '{"params": vectors, "weight_decay": 0.0}',
        '{"params": vectors, "weight_decay": config.weight_decay}',
    ),
    Mutant(
        "adamw: the decay is not decoupled", "charlm/training/optimizers.py",
        "return torch.optim.AdamW(groups",
        "return torch.optim.Adam(groups",
    ),
    Mutant(
        "the two averages of Adam are swapped", "charlm/training/optimizers.py",
        "lr, betas = config.lr, (config.beta1, config.beta2)",
        "lr, betas = config.lr, (config.beta2, config.beta1)",
    ),
    Mutant(
        "muon ignores the schedule", "charlm/training/optimizers.py",
        "for group in self.adamw.param_groups + self.muon.param_groups:",
        "for group in self.adamw.param_groups:",
    ),
    Mutant(
        "muon makes the gates of a matrix orthogonal together", "charlm/training/optimizers.py",
        "[nn.Parameter(gate) for gate in p.data.split(hidden)]",
        "[nn.Parameter(gate) for gate in p.data.split(len(p))]",
    ),
    Mutant(
        "clipping by norm and by value are swapped", "charlm/training/optimizers.py",
        'limit > 0 and algorithm == "norm"',
        'limit > 0 and algorithm == "value"',
    ),
    Mutant(
        "the cosine rises", "charlm/training/schedule.py",
        "0.5 * (1 + math.cos",
        "0.5 * (1 - math.cos",
    ),
    Mutant(
        "the first step of the warm-up has no learning rate", "charlm/training/schedule.py",
        "(step + 1) / (config.warmup + 1)",
        "step / (config.warmup + 1)",
    ),
    Mutant(
        "plateau waits for one validation more", "charlm/training/schedule.py",
        "if self.stale >= self.config.decay_every:",
        "if self.stale > self.config.decay_every:",
    ),
    Mutant(
        "two trainings of a run share its lock", "charlm/training/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
    ),
    Mutant(
        "validation reads less than the fewest tokens", "charlm/training/validation_points.py",
        "while length > most and length // 2 >= LEAST_TOKENS:",
        "while length > most:",
    ),
    Mutant(
        "nothing is said about unknown tokens", "charlm/training/preparation.py",
        "    if total:\n        seen",
        "    if total < 0:\n        seen",
    ),
    Mutant(
        "the memory of the optimiser is left out", "charlm/training/preparation.py",
        "4 * parameters * (1 if gpu else 4)",
        "4 * parameters",
    ),
    Mutant(
        "weights of another vocabulary are copied in their order", "charlm/training/pretrained.py",
        "weight[to] = old[name][from_]",
        "weight[to] = old[name][: len(to)]",
        ("tests/training/test_trainer.py::test_tokens_that_both_know_keep_their_rows",),
    ),
    Mutant(
        "the seed of the samples is ignored", "charlm/training/sample_logger.py",
        "range(config.seed, config.seed + config.count)",
        "range(1, 1 + config.count)",
        ("tests/training/test_sample_logger.py::test_seeds_of_samples_count_from_the_one_that_is_named",),
    ),
    Mutant(
        "`data.state_reset` is ignored", "charlm/training/data.py",
        "state_reset=self.data.state_reset,",
        "state_reset=0.0,", DEFINITION,
    ),
    Mutant(
        "the seed of the batches is ignored", "charlm/training/data.py",
        "seed=self.seed,",
        "seed=0,", DEFINITION,
    ),
    Mutant(
        "the seed of the initial weights is ignored", "charlm/training/trainer.py",
        "torch.manual_seed(config.seed)",
        "torch.manual_seed(1)", DEFINITION,
    ),
    Mutant(
        "a resumed run may change its optimiser", "charlm/training/resume.py",
        'RESUMABLE = ("trainer",',
        'RESUMABLE = ("trainer", "optimizer",',
        ("tests/training/test_resume.py::test_what_was_learned_cannot_change_when_a_run_is_resumed",),
    ),
    Mutant(
        "logged numbers have two digits", "charlm/training/run_logger.py",
        ':.6g}" for name, value in values.items()',
        ':.2g}" for name, value in values.items()',
    ),
    Mutant(
        "a checkpoint is written in place", "charlm/training/checkpoint.py",
        'with run.writing(name, "wb") if run.exists() else atomic(path, "wb") as file:',
        'with Path(path).open("wb") as file:', ("tests/test_manifest.py",),
    ),
    # -- config
    Mutant(
        "a run ends by the limit that is furthest", "charlm/config/limits.py",
        "min(1.0, max(epochs / self.epochs",
        "min(1.0, min(epochs / self.epochs",
        ("tests/config/test_resolve.py", "tests/config/test_settings.py", "tests/training/test_progress.py"),
    ),
    Mutant(
        "an hour has 6,000 seconds", "charlm/config/durations.py",
        '"h": 3600',
        '"h": 6000', ("tests/config/test_settings.py",),
    ),
    Mutant(
        "seconds after minutes lack their zero", "charlm/config/durations.py",
        "{minutes}m{rest:02}s",
        "{minutes}m{rest}s", ("tests/config/test_settings.py",),
    ),
    Mutant(
        "in a group, the lower settings win", "charlm/config/plain.py",
        "merge(merged[key], value) if both",
        "merge(value, merged[key]) if both", ("tests/config/test_settings.py",),
    ),
    Mutant(
        "a dropout of 1 is allowed", "charlm/config/fields.py",
        "Fraction = Annotated[float, Meta(ge=0, lt=1)]",
        "Fraction = Annotated[float, Meta(ge=0, le=1)]", ("tests/config/test_config.py",),
    ),
    Mutant(
        "trained weights take the learning rate of new ones", "charlm/config/resolve.py",
        "lr *= TRAINED",
        "lr *= 1.0",
    ),
    Mutant(
        "lanes are not shared equally by the processes", "charlm/config/resolve.py",
        "lanes = -(-lanes // facts.processes) * facts.processes",
        "lanes = max(lanes, facts.processes)",
    ),
    Mutant(
        "a command is not quoted for the shell", "charlm/config/shell.py",
        "shlex.join(words)",
        '" ".join(words)',
    ),
    # -- cli
    Mutant(
        "files win over the environment", "charlm/cli/sources.py",
        "merge(merge(layers, from_environment()), options)",
        "merge(merge(from_environment(), layers), options)", ("tests/cli/test_train.py", "tests/cli/test_cli.py"),
    ),
    Mutant(
        "every text without a seed is the same", "charlm/cli/generate.py",
        'seed = 1 if config.beams else int.from_bytes(os.urandom(4), "little")',
        "seed = 1",
        ("tests/cli/test_generate.py::test_a_seed_that_was_not_named_is_told",),
    ),
    Mutant(
        "an interrupted command ends with status 0", "charlm/cli/__init__.py",
        "return 128 + interrupted.signal",
        "return 0", ("tests/training/test_kill.py::test_interrupted_it_says_how_to_resume",),
    ),
    Mutant(
        "a mistake ends with status 1", "charlm/cli/__init__.py",
        "file=sys.stderr)\n    return 2",
        "file=sys.stderr)\n    return 1", ("tests/cli/test_cli.py",),
    ),
    Mutant(
        "`lanes` of evaluate is ignored", "charlm/cli/evaluate.py",
        "lanes=config.lanes,",
        "lanes=1,",
        reason="the result is the same by design; only the speed changes",
    ),
    Mutant(
        "`epoch` of samples is ignored", "charlm/cli/samples.py",
        "and (config.epoch is None or shown(config.epoch) == shown(sample.epoch))",
        "",
    ),
    Mutant(
        "an unknown environment variable is ignored", "charlm/cli/sources.py",
        "    if strangers:\n",
        "    if len(strangers) > 9:\n", ("tests/cli/test_cli.py", "tests/cli/test_train.py"),
    ),
    Mutant(
        "a message names a setting and not its option", "charlm/cli/options.py",
        'parts[index] = f"--{option}" if option else f"`{name}`"',
        'parts[index] = f"`{name}`"', ("tests/cli/test_train.py",),
    ),
    # -- views
    Mutant(
        "the table of evaluate prints bits per character as bits per byte", "charlm/views/terminal.py",
        '("bits per byte", f"{evaluation.bits_per_byte:.4f}")',
        '("bits per byte", f"{evaluation.bits_per_character:.4f}")',
        ("tests/views/test_terminal.py::test_an_evaluation_has_every_number_in_its_unit",),
    ),
    Mutant(
        "a validation prints bits per token as nats", "charlm/views/terminal.py",
        "validation {evaluation.loss:.4f} nats per token",
        "validation {evaluation.bits_per_token:.4f} nats per token",
    ),
    Mutant(
        "the time left is that of the whole run", "charlm/views/terminal.py",
        "left = seconds * (1 - fraction) / fraction",
        "left = seconds / fraction",
    ),
    Mutant(
        "millions of tokens are printed as thousands", "charlm/views/terminal.py",
        "{number / 1e6:.2f}M",
        "{number / 1e3:.2f}M", ("tests/views/test_terminal.py::test_speeds_are_short",),
    ),
    Mutant(
        "the best validation is the worst", "charlm/views/summary.py",
        'return min(validations, key=lambda row: row["val/loss"], default=None)',
        'return max(validations, key=lambda row: row["val/loss"], default=None)', ("tests/views/test_report.py",),
    ),
    Mutant(
        "the worst run is ranked first", "charlm/views/ranking.py",
        "key=lambda group: group.mean)",
        "key=lambda group: -group.mean)", ("tests/views/test_report.py",),
    ),
    Mutant(
        "the standard deviation over seeds is that of the population", "charlm/views/ranking.py",
        "statistics.stdev(self.bits)",
        "statistics.pstdev(self.bits)", ("tests/views/test_report.py",),
    ),
    Mutant(
        "a generated text controls the terminal", "charlm/views/text.py",
        '.replace("\\r\\n", "\\n").translate(_SYMBOLS)',
        '.replace("\\r\\n", "\\n")',
    ),
    Mutant(
        "markup in a generated text is markup of the report", "charlm/views/pages.py",
        "autoescape=True",
        "autoescape=False",
        ("tests/views/test_report.py",),
    ),
    # -- run
    Mutant(
        "generation uses the best weights, whatever `checkpoint` says", "charlm/run.py",
        "weights, directory = self.directory.read_weights(checkpoint), self.directory",
        "weights, directory = self.directory.read_weights(), self.directory", CHECKPOINTS,
    ),
    Mutant(
        "evaluation uses the best weights, whatever `checkpoint` says", "charlm/run.py",
        "model = self.load_model(checkpoint, device)\n        train =",
        "model = self.load_model('best', device)\n        train =", CHECKPOINTS,
    ),
    Mutant(
        "`generate` draws at a temperature of 1", "charlm/run.py",
        'values.setdefault("temperature", 1.0 if config.beams else self.config.samples.temperature)',
        'values.setdefault("temperature", 1.0)',
    ),
    Mutant(
        "a vocabulary of another network is accepted", "charlm/run_directory.py",
        "if len(tokenizer) != self.vocab_size:",
        "if len(tokenizer) < 1:", ("tests/test_run.py",),
    ),
    Mutant(
        "the numbers of the last step are dropped on resume", "charlm/run_directory.py",
        'values["step"] <= step]',
        'values["step"] < step]', ("tests/test_run.py", "tests/training/test_resume.py"),
    ),
    Mutant(
        "the samples of the last step are dropped on resume", "charlm/run_directory.py",
        "if sample.step <= step]",
        "if sample.step < step]", ("tests/test_run.py", "tests/training/test_resume.py"),
    ),
    Mutant(
        "damaged tokens are not found", "charlm/run_directory.py",
        'self.manifest.verify(f"tokens/{name}", remedy)',
        "pass", ("tests/test_manifest.py", "tests/test_run.py"),
    ),
    # -- files and manifest
    Mutant(
        "files are written in place", "charlm/files.py",
        'temporary = temporary_path(path)\n    try:\n        with _open(temporary, mode.replace("w", "x"))',
        "temporary = path\n    try:\n        with _open(temporary, mode)",
    ),
    Mutant(
        "the temporary file of a failed write stays", "charlm/files.py",
        "    except BaseException:\n        temporary.unlink(missing_ok=True)\n        raise",
        "    except BaseException:\n        raise",
    ),
    Mutant(
        "a symbolic link is replaced by the file", "charlm/files.py",
        "return Path(os.path.realpath(path)) if path.is_symlink() else path",
        "return path",
    ),
    Mutant(
        "temporary files of running processes are deleted", "charlm/files.py",
        "dead = not _runs(int(process))",
        "dead = True",
    ),
    Mutant(
        "a checksum covers the last megabyte of a file", "charlm/files.py",
        "value = zlib.crc32(data, value)",
        "value = zlib.crc32(data)",
    ),
    Mutant(
        "checksums are not compared", "charlm/manifest.py",
        "if checksum(path) in expected:",
        "if expected:",
    ),
    Mutant(
        "the manifest accepts only the newest content", "charlm/manifest.py",
        "KEPT = 2",
        "KEPT = 1",
    ),
    Mutant(
        "the manifest is written after the file", "charlm/files.py",
        "        if complete is not None:\n            complete(temporary)\n        temporary.replace(path)",
        "        temporary.replace(path)\n        if complete is not None:\n            complete(path)",
        ("tests/test_files.py", "tests/test_manifest.py"),
    ),
    # -- experiments
    Mutant(
        "the search of the learning rate is not paid from the budget", "charlm/experiments/budget.py",
        "fraction = seeds / (seeds + SEARCH_FRACTION * searched)",
        "fraction = 1.0",
    ),
    Mutant(
        "networks are matched to the nearest smaller size", "charlm/experiments/sizes.py",
        "for count in (below, above):",
        "for count in (below,):",
    ),
    Mutant(
        "the worst learning rate is taken", "charlm/experiments/race.py",
        "return min(factor for factor, loss in",
        "return max(factor for factor, loss in",
    ),
    Mutant(
        "intervals are those of a normal distribution", "charlm/evaluation/paired.py",
        "half = t_quantile(0.5 + CONFIDENCE / 2, count - 1)",
        "half = 1.96",
    ),
]
# fmt: on
