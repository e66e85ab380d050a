"""The way from logits to text, in four steps; only `TorchStepper` imports torch.

1. `stepper` runs a network one token at a time: `NumpyStepper` on a CPU, `TorchStepper` on a GPU or
   for many texts at once.
2. `processors` has functions that change the logits of the next token (temperature, top-k, ...), in
   a registry.
3. `sampling.Sampler` applies these functions in order and draws a token; `sampling.generate` draws
   tokens without end.
4. `sampling.stream_text` decodes the tokens and decides where a text ends, for example at a stop
   string. `draw_text.draw_text` generates much text at once, for metrics.
"""
