"""Use of trained networks: testing and prediction."""
