"""Train in one of two processes, in the second of which the loss is not finite in one step.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python tests/model/diverging.py BACKBONE OUTPUT_DIR

Writes what the process ended with to OUTPUT_DIR/RANK.txt.
"""

import os
import sys
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

from memevit.arguments import RecipeArguments
from memevit.model import recipe, trainer

STEP = 4  # The last one before a checkpoint, so that nothing but the check itself can stop the first process.


class Images(torch.utils.data.Dataset):
    """Prepared images, all of them grey."""

    labels = [0, 1] * 16

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, position):
        return {"pixel_values": torch.zeros(3, 32, 32), "labels": self.labels[position]}

    def set_epoch(self, epoch):
        pass


def main(backbone, output_dir):
    rank = os.environ["RANK"]
    args = TrainingArguments(
        output_dir=str(output_dir / "model"), use_cpu=True, ddp_backend="gloo", report_to="none", disable_tqdm=True,
        per_device_train_batch_size=2, max_steps=8, save_strategy="steps", save_steps=STEP, logging_steps=100,
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    chosen = recipe.complete(RecipeArguments(), args, from_scratch=True)
    own = trainer.build_trainer(
        AutoModelForImageClassification.from_pretrained(backbone),
        AutoImageProcessor.from_pretrained(backbone),
        args,
        chosen,
        train=Images(),
        validation=Images(),
        prepare_batch=lambda batch: batch,
        compute_metrics=lambda logits, true: {},
    )
    training_step = Trainer.training_step

    def step(self, *given):
        loss = training_step(self, *given)
        return loss * float("nan") if rank == "1" and self.state.global_step + 1 == STEP else loss

    Trainer.training_step = step
    try:
        own.train()
        ended_with = "finished"
    except Exception as error:
        ended_with = f"{type(error).__name__}: {error}"
    (output_dir / f"{rank}.txt").write_text(ended_with)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
