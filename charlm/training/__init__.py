"""The training of a network, from the settings to the finished run, with Lightning.

1. `trainer.train` calls `preparation`, which reads the text, chooses the missing settings and
   writes the first files of the run directory. After that, every process and every resumed run
   reads the text and the settings from this directory. `resume` lists what a resumed run restores,
   in order.
2. `data` cuts the token ids into batches; each process reads its own lanes or items. `processes`
   finds out which process is the first one, and passes the path of the run directory to the others.
3. `module` computes the loss, carries the state from window to window, and takes the optimiser
   step; `progress` holds the counters of the training, such as step, epoch and best loss.
4. `optimizers` has the optimisers and gradient clipping, `schedule` the learning-rate schedule.
5. Callbacks act when a step is complete; `trainer.step_callbacks` lists them in order. Most are in
   `callbacks`. The one in `sample_logger` generates samples and scores generated text; the one in
   `diagnostics` records weights, gradients and gates.
6. `run_logger` logs numbers to metrics.csv, TensorBoard and other loggers. `checkpoint` writes the
   checkpoints. Before each validation and each save, `recovery` checks whether the weights have
   diverged. `lock` prevents two trainings of the same run at once.
"""
