"""Many runs: the same text, network after network.

1. `race.check` finds mistakes in what a race is asked for.
2. `planning` reads the text and makes the plan (`plan`): `sizes` makes networks of different cells equal in parameters,
   width or operations per token; `budget` divides what each may use between the search of its learning rate and its
   trials. `race_directory` has the files.
3. `race.run` trains and scores the trials; `cluster` hands them to SLURM, through submitit.
4. `standings` turns the scores into what `charlm.views.race` shows.

A sweep tries settings in place of cells: `space` reads which, `sweep` trains the trials that Optuna proposes, and
`sweep_directory` has the files.
"""
