"""Training: one loop (`fit`), and a file for each task."""
