"""Recipes: one YAML file is one whole system."""
