"""`TrainingArguments` with the defaults of fine-tuning on few pictures."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from memevit.errors import UserError

FINE_TUNING_RATE = 5e-5
FROM_SCRATCH_RATE = 1e-3


@dataclass
class FineTuningArguments(TrainingArguments):
    """Every flag of the Transformers Trainer, with other defaults where memes ask for them."""

    output_dir: str | None = field(default=None, metadata={"help": "Model folder to write."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "How often every training picture is seen."})
    learning_rate: float | None = field(
        default=None,
        metadata={"help": f"Peak learning rate; {FINE_TUNING_RATE} by default, {FROM_SCRATCH_RATE} from scratch."},
    )
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate falls."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or share of all steps, in which it rises."})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's weight decay, not for norms and biases."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Pictures per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Pictures per device in evaluation."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on validation."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to write a checkpoint."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; the best one is among them."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(
        default="loss", metadata={"help": "Validation metric that makes a checkpoint the best."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two lines of the training log."})
    report_to: None | str | list[str] = field(default="none", metadata={"help": "tensorboard, trackio, ... or none."})
    seed: int = field(default=0, metadata={"help": "Seeds weights of the head, order of pictures and augmentation."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Leave it: pictures are no columns."})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise UserError("--output_dir is missing: name the model folder to write.")
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()

    def set_default_rate(self, *, from_scratch: bool) -> None:
        """Fill in the learning rate where the reader gave none."""
        if self.learning_rate is None:
            self.learning_rate = FROM_SCRATCH_RATE if from_scratch else FINE_TUNING_RATE
