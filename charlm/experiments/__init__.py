"""Experiments of many runs on one text: races compare cells, and sweeps search for settings.

A race trains a network of each cell with several seeds, and before that with several learning
rates, to find the best one. Each of these trainings is a trial.

1. `race.check` finds mistakes in the options of a race.
2. `planning` reads the text and makes the plan of the race (`plan`). `sizes` makes the networks
   equal in parameters, width or operations per token. `budget` divides the training time or steps
   of each network between the trials that search its learning rate and those with several seeds.
   `race_directory` reads and writes the files.
3. `race.run` trains and scores the trials; `cluster` trains them as jobs of SLURM, through
   submitit.
4. `standings` turns the scores into the result that `charlm.views.race` shows.

A sweep tries many settings instead. `space` reads which values to try, `sweep` trains the trials
that Optuna proposes, and `sweep_directory` reads and writes the files.
"""
