"""Scripts that run one after the other in each process of `accelerate launch`, which imports torch once for all.

    accelerate launch --multi_gpu --num_processes 2 tests/model/two_processes.py JOBS.json

JOBS.json is a list of jobs: `argv` of a script, `environment` variables of its own, and the `log` that gets its stderr.
"""

import gc
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main(jobs):
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    from memevit.commands import finetune  # noqa: F401

    gc.freeze()
    for job in jobs:
        if not (child := os.fork()):
            os._exit(run(job))  # An end in good order takes torch seconds.
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            return code
    return 0


def run(job):
    log = os.open(f"{job['log']}-{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stderr.fileno())
    os.environ.update(job["environment"])
    sys.argv = job["argv"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main(json.loads(Path(sys.argv[1]).read_text())))
