"""Many runs: the same text, network after network.

1. `sizes` makes networks of different cells equal: in parameters, in width, or in operations per token.
2. `budget` divides what a network may use between the search of its learning rate and its trials.
3. `plan` is what a race is going to do, written once when it starts.
4. `race` reads the text, makes the plan and trains its trials; `race_directory` has the files of a race.
5. `cluster` hands trials to SLURM, through submitit.
6. `standings` turns the scores of the trials into what `charlm.views.race` shows.
"""
