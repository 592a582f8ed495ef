"""Super-resolution that keeps structure: train, measure and run networks that keep edges in place."""

__version__ = "0.1.0"
