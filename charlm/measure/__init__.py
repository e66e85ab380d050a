"""How good: from a model and a text to numbers.

1. ``evaluation`` runs a text through the model with its state carried along and adds up the nats.
"""
