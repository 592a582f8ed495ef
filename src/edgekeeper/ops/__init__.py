"""Pure tensor operations: resize, colour, gradients, local structure, tiles."""
