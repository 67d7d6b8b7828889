"""Figures and the HTML page of a simulation or of a live run. Knows how things look; computes no results of its own."""
