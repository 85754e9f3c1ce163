"""Recipes of trajectories, a stream each; `engine.pair_recipe` reads them."""
