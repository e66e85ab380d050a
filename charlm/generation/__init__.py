"""From logits to text, in four steps; only `TorchStepper` imports torch.

1. `stepper` runs a network one token at a time: `NumpyStepper` on a CPU, `TorchStepper` on a GPU or
   for many texts at once.
2. `processors` change the logits of the next token (temperature, top-k, ...): pure functions in a
   registry.
3. `sampling.Sampler` applies them in order and draws a token; `sampling.generate` repeats that
   without end.
4. `sampling.stream_text` decodes the tokens and ends at a length, a stop string or the end of an
   item; `draw_text.draw_text` generates much text at once, for metrics.
"""
