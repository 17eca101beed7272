"""What a running job stands on: seeds, devices, checkpoints, and what it has spent."""
