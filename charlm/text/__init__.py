"""Text becomes batches.

1. `corpus` finds the sources (files, folders, globs, standard input, or the built-in corpus of `builtin`) and
   cuts them into train, validation and test; a text is read again in blocks, never held whole.
2. `items` says where lines, items and blocks end: the one rule by which any text is cut.
3. `tokenization` learns a vocabulary on the training split and turns text into ids and back.
4. `stream` writes the ids of each split to disk, memory-mapped, with the characters, bytes and words behind
   them; `cache` keeps them by content for the next run on the same text.
5. `batching` cuts a stream into lanes of windows, or gathers items of like length, as tensors.
"""
