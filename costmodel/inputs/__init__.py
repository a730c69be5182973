"""What a user gives: models, workloads, GPUs, and the files and text that hold them."""
