"""Training: recipes, the loop, what it keeps, checks and logs."""
