//! slurm-wire
