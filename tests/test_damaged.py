"""A few hundred damaged files of each kind; docs/damage.md has the figures of a million."""

from __future__ import annotations

import pytest

from tests.damaged import KINDS, Kind, campaign


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_damage_gives_another_value_or_another_error(kind: Kind) -> None:
    if kind.name == "`.wandb` file":
        pytest.importorskip("wandb", reason="the extra wstrack[wandb] is not installed")
    tally = campaign(kind, 400, seed=len(kind.name), memory_every=20)
    # Time is not held to here, where others may use the processor too.
    assert [wrong for wrong in tally.wrong if " s for a file" not in wrong] == []
    assert tally.inputs == 400
