"""A process that runs command lines one after the other, with bounded memory, and tells each result.

It reads a JSON object per line, `{"words": [...], "folder": "..."}`, and answers with one. The words `probed`
and DB ask for what the finished probes of a database found. It is a process of its own, so that a crash, a
hang or memory that runs out is a result too.
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
# Letters of an answer that are kept.
_PRINTED = 1 << 20


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    from filterbands import cli

    from .stock import probed_in

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
            if job["words"][0] == "probed":
                code = 0
                sys.stdout.write(json.dumps(probed_in(Path(job["words"][1]))))
            else:
                code = cli.main(job["words"])
        answer = {"code": code, "out": out.getvalue()[-_PRINTED:], "err": err.getvalue()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
