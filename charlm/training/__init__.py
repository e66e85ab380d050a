"""From settings to a trained run; the only wing that knows Lightning.

1. ``trainer.train`` reads the text, fills in what was not named, and writes the start of a run directory;
   from there on everything is read from that directory, by the first process, by every other one, and by
   a run that goes on after an interruption.
2. ``data`` cuts the ids into windows; every process gets its own lanes.
3. ``module`` computes the loss, carries the state from window to window, and takes the optimiser's step.
4. ``optimizers`` says what that step is and how large.
5. ``callbacks`` act between two steps: validate, save, report, stop; among them ``reel`` writes samples and
   scores them, and ``inspection`` looks inside the network.
6. ``record`` keeps the numbers: TensorBoard and metrics.csv.
"""
