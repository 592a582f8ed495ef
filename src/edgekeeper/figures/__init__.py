"""Figures of the papers and our own: images and numbers in, one file out.

Images are RGB tensors (1, 3, H, W) in [0, 1], all of the original's size; the extension of the file
says the format (.svg, .pdf, .png). ``rows`` draws images, ``points`` networks, ``curves`` values
along a line or of patches. Only ``subjects`` runs networks: it makes the images that the others
draw. Nothing here trains.
"""
