"""From token ids to scores for the next token, in four steps.

1. `shape.ModelShape` says how large the network is; it is what a run saves as `model.json` (no torch needed).
2. `cells` holds the recurrences, one file per family: a cell is the equations of one time step.
3. `recurrence.Layer` owns the parameters of a cell and runs it over a window of time.
4. `model.LanguageModel` looks ids up in an embedding, runs them through stacked layers and projects to
   scores: `(batch, time)` ids and a state go in, `(batch, time, vocabulary)` logits and the next state come
   out.

The state is one tensor `(layers, slots, batch, hidden)` whatever the cell.
"""
