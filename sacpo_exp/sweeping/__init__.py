"""Sweeps: what each job leaves in its folder, how jobs share a machine, and how far they have come."""
