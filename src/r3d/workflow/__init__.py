"""What a step needs to run as a job of a workflow, on this machine or on SLURM."""
