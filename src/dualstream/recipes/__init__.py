"""Recipes that come with the package, one YAML file a set-up; `engine.recipe` reads them."""
