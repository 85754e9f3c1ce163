"""Trained networks outside of training: files that other runtimes run."""
