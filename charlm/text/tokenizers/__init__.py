"""The tokenizers: for each, what a token is, and how a vocabulary of such tokens is learned.

The registry `charlm.text.tokenization.tokenizer_kinds` imports every module here, so a new
tokenizer is a new file with a registered subclass of `Tokenizer`. No tokenizer declares special tokens in the
`tokenizers` library, because the library would match them in the raw text (Penn Treebank and
WikiText contain a literal `<unk>`), and would leave them out when it decodes ids.
"""
