"""Recipes of several networks, a stream each; `engine.pair_recipe` reads them."""
