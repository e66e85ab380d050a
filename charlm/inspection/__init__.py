"""Measurements inside a network: `gates` records gate values, `memory` how far back predictions depend on the text."""
