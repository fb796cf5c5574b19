"""One rank: the loop, the step, optimizers, checkpoints, evaluation, samples."""
