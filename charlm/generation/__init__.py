"""Generation of text by a network, in four steps; only `TorchStepper` imports torch.

1. `stepper` runs a network one token at a time and returns the logits of the next token:
   `NumpyStepper` on a CPU, `TorchStepper` on a GPU or for many texts at once. `exact.ExactStepper`
   returns the same bits on every machine.
2. `processors` has functions that change these logits (temperature, top-k, ...), in a registry.
3. `sampling.Sampler` applies these functions in order and draws a token; `sampling.generate` draws
   tokens without end.
4. `generated_text.Row` decodes the tokens of a text and finds its end, for example at a stop string.
   `streaming.Generation` generates several texts side by side and yields their pieces;
   `streaming.generate_texts` generates any number of texts, block by block.

`search.BeamSearch` takes the place of drawing in steps 3 and 4: it looks for the most probable texts.

When a person and a network write together, `composition.Composition` takes the place of step 4. Its
text is a path in a tree of tokens (`text_tree`); `spelling` converts typed text to tokens, and
tokens to text.

For metrics, `draw_text.draw_text` takes the place of step 4: it generates texts side by side,
without processors, and joins them into one long text.
"""
