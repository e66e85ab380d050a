"""Measurements inside a network.

`gates` records the values of gates; `memory` measures how far back the text matters for
predictions.
"""
