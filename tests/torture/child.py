"""A process that runs command lines one after the other, with bounded memory, and tells each result.

It reads a JSON object per line, `{"words": [...], "folder": "..."}`, and answers with one. It is a process of
its own, so that a crash, a hang or memory that runs out is a result too.
"""

import contextlib
import io
import json
import os
import resource
import sys
import warnings
from pathlib import Path

# Beyond what the libraries take before the first input.
_MEMORY = 3 << 30


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    from filterbands import cli

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limited = False
    for line in sys.stdin:
        job = json.loads(line)
        if not limited:
            pages = int(Path("/proc/self/statm").read_text().split()[5])
            resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + _MEMORY,) * 2)
            limited = True
        os.chdir(job["folder"])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(job["words"])
        answers.write(json.dumps({"code": code, "out": out.getvalue()[-4000:], "err": err.getvalue()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
