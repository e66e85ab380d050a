"""From settings to a trained run; the only package that imports Lightning.

1. `trainer.train` has the run directory prepared (`preparation`): the text is read, settings are resolved, and the
   start of the run is written. From there on every process, and every resumed run, reads that directory alone;
   `resume` lists what a resumed run restores, in order.
2. `data` cuts the ids into batches; every process gets its own lanes (`processes` knows which process this is).
3. `module` computes the loss, carries the state from window to window, and takes the optimiser's step; `progress`
   holds its counters: step, epoch, best loss, limits.
4. `optimizers` has the optimisers and gradient clipping, `schedule` the learning-rate schedule.
5. `callbacks` act when a step is complete; `trainer.step_callbacks` lists them in order. Among them `sample_logger`
   generates and scores samples, and `diagnostics` records the inside of the network.
6. `run_logger` writes the numbers: metrics.csv, TensorBoard, other loggers; `checkpoint` the checkpoints; `recovery`
   keeps diverged weights out of them; `lock` keeps a second training out of the run.
"""
