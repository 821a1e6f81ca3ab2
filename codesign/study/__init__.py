"""Many plans of one problem: frontiers and sweeps, resumable, on local processes or a cluster."""
