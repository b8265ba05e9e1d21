"""Recipes: each is the whole line of stages for one purpose, read from top to bottom."""
