"""Run folders: recipe, classes, origin and weights of a trained network."""
