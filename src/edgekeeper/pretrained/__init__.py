"""Networks with weights: those that ship, those of other programs, exported ones."""
