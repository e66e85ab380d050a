"""The way from text to batches of token ids.

1. `sources` finds files, folders, globs and standard input and decodes them; `builtin` is a corpus for a first try.
2. `corpus` joins them and cuts them into train, validation and test splits, which are read in blocks.
   `items` has the rules by which any text is cut into lines, items and blocks.
3. `tokenization` learns a vocabulary from the training split and turns text into ids and back;
   `tokenizers` has the kinds of tokenizer.
4. `stream` turns each split into ids and counts the characters, bytes and words that they encode;
   `store` writes the ids to disk and maps them into memory. The files stay in `cache` for the next
   run on the same text.
5. `batching` makes tensors: it cuts a stream into lanes and windows, or puts items of similar
   length together.
"""
