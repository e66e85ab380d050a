"""How good: from a model and a text to numbers.

1. ``evaluation`` runs a text through the model with its state carried along and adds up the nats.
2. ``memory`` measures how far back the network looks: gradients through time, loss against context.
3. ``gates`` records what the gates do.
"""
