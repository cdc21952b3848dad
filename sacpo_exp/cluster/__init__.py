"""Where a run happens: groups of processes, sweeps, Slurm."""
