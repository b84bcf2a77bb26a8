"""Rules that watch a training by themselves: `wstrack.watch(model, rules="default")`."""

from wstrack.rules.bands import Band as Band
from wstrack.rules.contract import Observed as Observed
from wstrack.rules.contract import Rule as Rule
from wstrack.rules.settled import Settled as Settled
from wstrack.rules.states import IdlePart as IdlePart
from wstrack.rules.states import NotFinite as NotFinite
from wstrack.rules.states import Stopped as Stopped
from wstrack.rules.stopping import StopTraining as StopTraining
from wstrack.rules.thresholds import OneStep as OneStep
from wstrack.rules.thresholds import RateJump as RateJump
from wstrack.rules.thresholds import Swallowed as Swallowed
from wstrack.rules.together import Collapse as Collapse
from wstrack.rules.together import Smooth as Smooth
from wstrack.rules.together import Surge as Surge
from wstrack.runs.alerts import Alert as Alert

__all__ = [
    "Alert",
    "Band",
    "Collapse",
    "IdlePart",
    "NotFinite",
    "Observed",
    "OneStep",
    "RateJump",
    "Rule",
    "Settled",
    "Smooth",
    "StopTraining",
    "Stopped",
    "Surge",
    "Swallowed",
    "default",
]


def default(*, rate: float = 0.01) -> list[Rule]:
    """New rules as `rules="default"` has them; together they raise a false alarm in a share of `rate` of sound runs.

    Two fifths of it are `Band`'s, which looks at each layer, a fifth `Surge`'s, a tenth `Smooth`'s, and a twentieth
    each are for `Stopped` and `IdlePart`; a fifth is left for `Collapse`, which is no default. The others say what is
    so, and need none.

    Example:
        >>> [rule.name for rule in default()]
        ['not finite', 'stopped', 'idle part', 'band', 'surge', 'smooth', 'rate jump', 'swallowed']
    """
    return [
        NotFinite(),
        Stopped(rate=0.05 * rate),
        IdlePart(rate=0.05 * rate),
        Band(rate=0.4 * rate),
        Surge(rate=0.2 * rate),
        Smooth(rate=0.1 * rate),
        RateJump(),
        Swallowed(),
    ]
