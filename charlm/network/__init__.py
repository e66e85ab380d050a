"""The network: from token ids to the logits of the next token.

1. `cells` holds the equations, one file per family: a cell is the equations of one time step.
2. `layer.Layer` owns the parameters of a cell and runs it over a window.
3. `model.LanguageModel` looks ids up in an embedding, runs them through stacked layers and projects
   to logits: `(batch, time)` ids and a state go in, `(batch, time, vocab_size)` logits and the next
   state come out.
4. `loss.summed_cross_entropy` is the loss of a window, in nats.

The state is one tensor `(layers, states, batch, hidden)` for every cell, where `states` is the
number of arrays that the cell carries (GRU: 1, LSTM: 2). All modules but `cells`, `recurrence` and
`summary` import torch.
"""
