"""Training: batches, the loop with checkpoints, distillation, and rivals to compare it with."""
