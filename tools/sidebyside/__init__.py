"""Measures failback beside others, fairly: one machine, one set of disks, in turn, every result checked."""
