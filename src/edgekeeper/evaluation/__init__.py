"""Scores of networks and of folders of results: compared, counted, inspected, packed."""
