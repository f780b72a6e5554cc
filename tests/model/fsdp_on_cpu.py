"""Run a script of ours with its weights divided among processes on a processor.

    accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2 tests/model/fsdp_on_cpu.py finetune_vit.py ...

torch divides weights on processors too, by gloo; accelerate only leaves it off there. Here it doesn't.
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main():
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    def on_cpu(self):
        self.device = torch.device("cpu")

    PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = on_cpu
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
