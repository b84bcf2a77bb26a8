"""Does the change of each layer scale with the width of the network as muP has it? One layer here does not.

Its learning rate was divided by the width twice, as happens where an optimizer and a model each see to it. With Adam an
update of a weight is about its learning rate. muP gives hidden and output layers a rate of 1/width, and weights of
1/sqrt(width) and 1/width; so the relative change goes as width to the power of -0.5 in hidden layers, and of 0 in the
first and the last. Run it with `python examples/mup_widths.py`; it writes runs/ and sweep/.
"""

import torch
from torch import nn

import wstrack

WIDTHS, BASE = (32, 64, 128, 256), 32


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(16, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(4))
        self.last = nn.Linear(width, 4, bias=False)
        for layer, deviation in (
            (self.first, 0.25),
            *((one, width**-0.5) for one in self.hidden),
            (self.last, 1 / width),
        ):
            nn.init.normal_(layer.weight, std=deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        for layer in self.hidden:
            x = layer(x).relu()
        return self.last(x)


def train(width: int, seed: int) -> None:
    """Train one network, watched, into a run of its own."""
    torch.manual_seed(seed)
    model, scale = Net(width), BASE / width
    groups = [
        {"params": model.first.parameters(), "lr": 1e-3},
        {"params": [model.hidden[place].weight for place in (0, 1, 3)], "lr": 1e-3 * scale},
        {"params": model.hidden[2].parameters(), "lr": 1e-3 * scale**2},  # the fault
        {"params": model.last.parameters(), "lr": 1e-3 * scale},
    ]
    optimizer = torch.optim.Adam(groups)
    teacher = torch.randn(16, 4)
    with wstrack.watch(model, every=5, to=f"./runs/width-{width}-seed-{seed}", facts={"width": width, "seed": seed}):
        for _ in range(40):
            x = torch.randn(64, 16)
            loss = nn.functional.cross_entropy(model(x), (x @ teacher).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    for seed in range(3):
        for width in WIDTHS:
            train(width, seed)
    found = wstrack.sweep("runs", by="width", to="sweep")
    print(found.slopes["width"].layers[["slope", "lower", "upper", "unlike"]].round(2))
    print(found.findings[0].text)
    print(found.save("sweep", pages=0))
