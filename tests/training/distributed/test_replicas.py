"""What is told of a sharded layer is that of the whole one: fingerprints, nodes. A replica that strays is found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import wstrack
from tests.training.distributed.trainings import CUTS, LAYERS, WAYS, inputs, plain
from wstrack.measuring.meters import choose
from wstrack.metrics import METRICS, compute

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.distributed.processes import Processes

pytestmark = pytest.mark.slow

BITS = METRICS["fingerprint"].sums
FOUND = (
    "Of the 4 processes that should hold the same weights, at least one does not from step 8 on, in 2.weight. Which "
    "ranks these are, their own logs say."
)


def of_whole(model: nn.Module) -> dict[str, float]:
    """The fingerprint of each layer of a model that is whole here."""
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim > 1}
    meter = choose(list(weights.values()), BITS)
    meter.snapshot()
    sums = dict(zip(BITS, meter.sample().numpy().T, strict=True))
    found = compute(["fingerprint"], sums, np.ones(len(weights)))["fingerprint"]
    return dict(zip(weights, found.tolist(), strict=True))


def standing_still(rank: int, *, way: str, parts: Any = None) -> dict[str, float] | None:
    """The fingerprints of a model that is trained with a learning rate of 0."""
    model = WAYS[way][0](plain(torch.float32))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with wstrack.watch(model, to="runs/it", every=1, metrics=("rwc", "fingerprint"), parts=parts) as watcher:
        for _ in range(2):
            model(inputs(0, 1, torch.float32)).square().mean().backward()
            optimizer.step()
    if rank:
        return None
    series = watcher.run().series["fingerprint"]
    assert (series.iloc[0] == series.iloc[1]).all()
    return dict(series.iloc[0])


@pytest.mark.parametrize("way", list(WAYS))
def test_a_sharded_layer_has_the_fingerprint_of_the_whole_one(four: Processes, tmp_path: Path, way: str) -> None:
    found = four(standing_still, tmp_path, way=way)[0]
    assert found == of_whole(plain(torch.float32))


@pytest.mark.parametrize("way", ["FSDP2", "FSDP1, flat parameters", "tensor parallel"])
def test_so_has_one_that_is_cut_into_parts(four: Processes, tmp_path: Path, way: str) -> None:
    found = four(standing_still, tmp_path, way=way, parts=CUTS)[0]
    assert {layer: found[layer] for layer in LAYERS} == of_whole(plain(torch.float32))
    model = plain(torch.float32)
    to = str(tmp_path / "alone")
    with wstrack.watch(model, to=to, every=1, metrics=("rwc", "fingerprint"), parts=CUTS) as alone:
        alone.step()
    assert found == dict(alone.run().series["fingerprint"].iloc[0])


def linked(rank: int, *, way: str) -> dict[str, list[float]] | None:
    """Strength and fluctuation of a sharded model that stands still."""
    model = WAYS[way][0](plain())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with wstrack.watch(model, to="runs/it", every=1, metrics=("rwc", "strength", "fluctuation")) as watcher:
        model(inputs()).square().mean().backward()
        optimizer.step()
    if rank:
        return None
    series = watcher.run().series
    return {metric: series[metric].iloc[0].tolist() for metric in ("strength", "fluctuation")}


@pytest.mark.parametrize("way", list(WAYS))
def test_nodes_of_a_sharded_model_are_those_of_the_whole_one(four: Processes, tmp_path: Path, way: str) -> None:
    found = four(linked, tmp_path, way=way)[0]
    model = plain()
    with wstrack.watch(model, to=str(tmp_path / "w"), every=1, metrics=("rwc", "strength", "fluctuation")) as watcher:
        watcher.step()
    for metric, values in found.items():
        np.testing.assert_allclose(values, watcher.run().series[metric].iloc[0], rtol=1e-12, err_msg=metric)


def replicas(rank: int, *, stray: int, at: int, layer: str) -> dict[str, Any]:
    """Trains with DDP; before one step a bit of one weight of one process flips. What is recorded and said."""
    torch.manual_seed(rank)  # DDP sends everybody the first process's weights
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("wstrack").addHandler(handler)
    try:
        with wstrack.watch(model, to="runs/it", every=2, metrics=("rwc", "fingerprint", "replicas")) as watcher:
            for step in range(1, 13):
                if rank == stray and step == at:
                    with torch.no_grad():
                        model.module.get_parameter(layer).view(torch.int32)[1, 2] ^= 1
                optimizer.zero_grad()
                model(torch.randn(8, 4)).square().mean().backward()
                optimizer.step()
    finally:
        logging.getLogger("wstrack").removeHandler(handler)
    said = [line for line in lines if "does not hold the bits" in line or "hold the same bits" in line]
    if rank:
        return {"said": said}
    run = watcher.run()
    findings = [one.text for one in wstrack.report(run).findings if one.kind == "parted"]
    return {"said": said, "series": run.series["replicas"], "rwc": run.series["rwc"], "findings": findings}


def test_a_flipped_bit_is_found_at_its_step_layer_and_rank(four: Processes, tmp_path: Path) -> None:
    first, *others = four(replicas, tmp_path, stray=2, at=7, layer="2.weight")
    series = first["series"]
    assert series.index.tolist() == [2, 4, 6, 8, 10, 12]
    assert not series.loc[:6].to_numpy().any()
    assert (series.loc[8:, "2.weight"] == 1).all()
    assert not series.loc[8, ["0.weight", "3.weight"]].any()
    assert np.isfinite(first["rwc"]).all(axis=None)
    assert [len(one["said"]) for one in (first, *others)] == [1, 0, 1, 0]
    assert (
        "at step 8 not all processes hold the same bits: at least 1 not those of the first, of 1 layers: 2.weight"
        in (first["said"][0])
    )
    assert (
        "at step 8 this process (rank 2) does not hold the bits that the first one holds of 1 of its 3 layers: "
        in (others[1]["said"][0])
    )
    assert first["findings"] == [FOUND]


def failing(rank: int) -> dict[str, Any]:
    """As `replicas`, with a meter of another kind on one rank, whose third sample fails."""
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    meter = "portable" if rank == 1 else "auto"
    with wstrack.watch(model, to="runs/it", every=1, metrics=("rwc", "replicas"), meter=meter) as watcher:
        for step in range(1, 5):
            if rank == 1 and step == 3:
                watcher._measured._meter.sample = lambda: 1 / 0
            model(torch.randn(8, 40)).square().mean().backward()
            optimizer.step()
            if rank == 1 and step == 3:
                del watcher._measured._meter.sample
    return {"series": None if rank else watcher.run().series["replicas"]}


def test_a_rank_that_could_not_measure_has_not_strayed(two: Processes, tmp_path: Path) -> None:
    series = two(failing, tmp_path)[0]["series"]
    assert not series.loc[[1, 2]].to_numpy().any()
    assert series.loc[3].isna().all()


def test_replicas_that_stay_together_are_silent(four: Processes, tmp_path: Path) -> None:
    first, *others = four(replicas, tmp_path, stray=-1, at=0, layer="")
    assert not first["series"].to_numpy().any()
    assert [one["said"] for one in (first, *others)] == [[]] * 4
    assert first["findings"] == []


def refused(rank: int) -> str:
    model = WAYS["FSDP2"][0](plain())
    with pytest.raises(ValueError, match="replicas") as said:
        wstrack.watch(model, to="runs/it", metrics=("rwc", "replicas"))
    return str(said.value)


def test_what_is_sharded_has_no_replicas(two: Processes, tmp_path: Path) -> None:
    for said in two(refused, tmp_path):
        assert "each hold the whole model (DistributedDataParallel), and this one is sharded; leave it out" in said


def test_one_process_alone_has_no_other(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    with wstrack.watch(model, to=str(tmp_path / "run"), every=1, metrics=("rwc", "replicas")) as watcher:
        watcher.step()
    assert watcher.run().series["replicas"].to_numpy().tolist() == [[0.0]]
