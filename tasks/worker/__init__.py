"""The DeepSpeed worker: runs in a process of its own, started by a task."""
