"""For eyes: what a person sees of a run.

1. ``terminal`` shows a run while it trains, and its samples afterwards.
"""
