//! slurm-auth
