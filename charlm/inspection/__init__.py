"""Measurements inside a network.

`gates` records the values of gates; `memory` measures how far back in the text predictions depend
on it.
"""
