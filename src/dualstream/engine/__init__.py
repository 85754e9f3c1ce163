"""Runs the chain: training, testing, prediction."""
