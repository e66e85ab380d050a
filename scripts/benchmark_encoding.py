"""How fast text is encoded, by our look-up tables and by the `tokenizers` library, and the memory of a whole build.

    python scripts/benchmark_encoding.py TEXT [--kinds char byte word ...] [--megabytes 20] [--rounds 5]

For each kind of tokenizer it prints the speed (MB of UTF-8 per second) of `Tokenizer.encode` and of the library called
line by line, measured alternately, the best of all rounds, and whether the ids are identical. Then it prints the time
and the peak resident memory of `store.build`, which reads the file, learns the vocabulary and writes the ids; each
build runs in its own process.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from charlm.config import DataConfig, TokenizerConfig
from charlm.text.corpus import read_corpus
from charlm.text.items import blocks, lines
from charlm.text.store import build
from charlm.text.tokenization import learn, tokenizer_kinds

LIBRARY_CHARACTERS = 1_000_000  # enough to measure the library, which is slower


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def encoding(text: str, kind: str, rounds: int) -> None:
    """Print one line: the speed of a kind of tokenizer, ours and the library's."""
    tokenizer = learn(TokenizerConfig(kind=kind), blocks([text]))
    some = "".join(lines(text[:LIBRARY_CHARACTERS])[:-1])

    def by_library() -> np.ndarray:
        encoded = tokenizer.library.encode_batch_fast(lines(some), add_special_tokens=False)
        return np.concatenate([np.asarray(line.ids, np.int32) for line in encoded])

    same = np.array_equal(tokenizer.encode(some), by_library())
    ours, library = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: [tokenizer.encode(block) for block in blocks([text])]))
        library.append(timed(by_library))
    speed = len(text.encode()) / min(ours) / 1e6
    library_speed = len(some.encode()) / min(library) / 1e6
    print(
        f"{kind:9} {len(tokenizer):7,} tokens  {speed:8.1f} MB/s  library {library_speed:6.1f} MB/s  "
        f"ids {'identical' if same else 'DIFFERENT'}"
    )


def building(path: Path, kind: str) -> None:
    """Print one line: time and memory of a build; call it in a new process."""
    seconds = time.perf_counter()
    corpus = read_corpus(DataConfig(text=(str(path),)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHARLM_CACHE"] = f"{folder}/cache"
        build(corpus, TokenizerConfig(kind=kind), Path(folder) / "tokens")
    seconds = time.perf_counter() - seconds
    size = path.stat().st_size / 1e6
    # Not getrusage: its maximum is inherited from the process that started this one.
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    peak = f"{int(found[1]) / 1024:.0f} MB" if found else "unknown"
    print(f"{kind:9} built from {size:,.1f} MB in {seconds:.1f} s ({size / seconds:.1f} MB/s), peak {peak}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["char", "byte"], choices=list(tokenizer_kinds))
    parser.add_argument("--megabytes", type=float, default=20, help="the text is repeated or cut to this size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        building(options.text, options.kinds[0])
        return
    text = options.text.read_bytes().decode("utf-8-sig")
    characters = int(options.megabytes * 1e6 * len(text) / len(text.encode()))
    text = (text * (characters // len(text) + 1))[:characters]
    for kind in options.kinds:
        encoding(text, kind, options.rounds)
    del text
    for kind in options.kinds:
        subprocess.run([sys.executable, __file__, str(options.text), "--kinds", kind, "--build"], check=True)


if __name__ == "__main__":
    main()
