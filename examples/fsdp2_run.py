"""A small GPT sharded by FSDP2 and watched: `torchrun --nproc-per-node 2 examples/fsdp2_run.py`.

Every rank calls `watch`, rank 0 records. Without GPUs it runs on CPUs over gloo.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import wstrack

TEXT = b"".join(b"%d times %d is %d. " % (a, b, a * b) for a in range(1, 60) for b in range(1, 60))
CONTEXT, WIDTH = 64, 64


class Block(nn.Module):
    """Attention and a feed-forward network, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From and to (batch, context, width)."""
        normed = self.norm1(x)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        x = x + self.attention(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Predicts each next byte of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.head = nn.Linear(WIDTH, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, context) to (batch * context, 256)."""
        x = self.embedding(tokens) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(0, 1))


def main() -> None:
    """Train on one rank of several."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dist.init_process_group()
    if device.type == "cuda":
        torch.cuda.set_device(dist.get_rank() % torch.cuda.device_count())
    torch.manual_seed(0)
    model = GPT().to(device)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    watcher = wstrack.watch(model, every=10, to="runs/fsdp2")

    torch.manual_seed(dist.get_rank())  # from here on each rank draws other text
    text = torch.frombuffer(bytearray(TEXT), dtype=torch.uint8).long()
    for step in range(100):
        starts = torch.randint(len(text) - CONTEXT - 1, (16, 1))
        window = text[starts + torch.arange(CONTEXT + 1)].to(device)
        loss = nn.functional.cross_entropy(model(window[:, :-1]), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0 and step % 20 == 19:
            print(f"step {step + 1}: loss {loss.item():.2f}")

    watcher.close()
    if dist.get_rank() == 0:
        change = watcher.run().series["rwc"]
        print(f"\nchange of each layer over 10 steps, at the start and at the end ({watcher.recording.parent}):")
        print(change.iloc[[0, -1]].T.to_string(float_format="%.2g"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
