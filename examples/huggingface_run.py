"""Hugging Face's Trainer on a small vision transformer, watched: `python examples/huggingface_run.py`."""

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
from wstrack_integrations.transformers import WeightChangeCallback

import wstrack

images, labels = load_digits(return_X_y=True)
pixels = torch.from_numpy(images / 16).float().view(-1, 1, 8, 8)
digits = [{"pixel_values": image, "labels": int(label)} for image, label in zip(pixels, labels, strict=True)]

torch.manual_seed(0)
config = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_labels=10,
)
arguments = TrainingArguments(
    output_dir="out",
    use_cpu=True,
    num_train_epochs=5,
    per_device_train_batch_size=32,
    learning_rate=2e-3,
    eval_strategy="epoch",
    save_strategy="no",
    report_to="tensorboard",
)
callback = WeightChangeCallback(every=10)
trainer = Trainer(
    ViTForImageClassification(config),
    arguments,
    train_dataset=digits[:1500],
    eval_dataset=digits[1500:],
    compute_metrics=lambda seen: {"accuracy": (seen.predictions.argmax(1) == seen.label_ids).mean()},
    callbacks=[callback],
)
trainer.train()

folder = callback.watcher.recording.parent  # `wstrack`, in the folder of the trainer's own events
report = wstrack.report(wstrack.pull(folder))
report.save("report.html")
print(f"report.html is of {folder}")
