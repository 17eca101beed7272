"""Training: batches, the loop, checkpoints, and one run from files to files."""
