"""Who may change the champion: a guard against mistakes, not against malice.

Names are those of the operating system; whoever can write into the store can do without us. Rights
on a shared MLflow server are the server's to give.
"""

from __future__ import annotations

from pipelines.params import RegisterConfig
from pipelines.registry.aliases import ReleaseError

GATE = "gate"
"""The name under which the gate's own verdicts promote, whoever started the stage."""


def may_promote(rules: RegisterConfig, who: str) -> bool:
    """Whether params let `who`, as `ann@host`, change the champion.

    Example:
        >>> rules = RegisterConfig(name="rtmo", floor_ap=0, bootstrap_samples=100, confidence=0.95,
        ...                        min_effect=0, max_latency_ratio=1.1, promoters=("ann",))
        >>> may_promote(rules, "ann@host"), may_promote(rules, "bob@host"), may_promote(rules, GATE)
        (True, False, False)
    """
    return not rules.promoters or bool({who, who.partition("@")[0]} & {*rules.promoters})


def require_promoter(rules: RegisterConfig, who: str) -> None:
    """Refuse whoever params do not name.

    Raises:
        ReleaseError: naming who may.
    """
    if not may_promote(rules, who):
        raise ReleaseError(
            f"{who} may not change the champion; register.promoters in params.yaml names "
            f"{', '.join(rules.promoters)}"
        )
