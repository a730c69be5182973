"""A profile: what is to be done, a process for each kind of run, what is done and on disk."""
