"""The tables of the papers, ours beside the printed numbers.

``training`` trains and measures the cells of the gradient variance paper's tables. ``measured``
puts any networks or folders of results beside the rows of SPSR's and DGGGAN's tables, which
``printed`` holds. ``costs`` counts what DGGGAN's Table 5 prints. ``frontier`` is no paper's:
structure terms against fidelity.
"""
