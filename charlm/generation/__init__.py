"""Generation of text by a network, in four steps; only `TorchStepper` imports torch.

1. `stepper` runs a network one token at a time and returns the logits of the next token:
   `NumpyStepper` on a CPU, `TorchStepper` on a GPU or for many texts at once.
2. `processors` has functions that change these logits (temperature, top-k, ...), in a registry.
3. `sampling.Sampler` applies these functions in order and draws a token; `sampling.generate` draws
   tokens without end.
4. `sampling.stream_text` decodes the tokens and decides where a text ends, for example at a stop
   string.

For metrics, `draw_text.draw_text` takes the place of `generate` and `stream_text`: it generates
texts side by side, without processors, and joins them into one long text.
"""
