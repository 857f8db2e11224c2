"""What the actor-critic minimises. IRIS, section 2.3."""

from torch.distributions import Categorical

from irisflow.behaviour.returns import lambda_returns
from irisflow.records import Loss, Rollout


def actor_critic_loss(rollout: Rollout, *, gamma: float, lambda_: float, entropy_weight: float) -> Loss:
    """Return the terms `actor` (REINFORCE with the values as baseline), `value` and `entropy`.

    Each is a mean over all steps but the last, whose value only bootstraps; steps after an imagined end count
    too, as in IRIS.
    """
    values = rollout.values[:, :-1]
    targets = lambda_returns(
        rollout.rewards, rollout.values.detach(), rollout.ends, gamma=gamma, lambda_=lambda_
    )[:, :-1]
    policy = Categorical(logits=rollout.logits[:, :-1], validate_args=False)
    log_probabilities = policy.log_prob(rollout.actions[:, :-1])  # type: ignore[no-untyped-call]
    entropies = policy.entropy()  # type: ignore[no-untyped-call]
    return Loss(
        {
            "actor": -(log_probabilities * (targets - values.detach())).mean(),
            "value": (values - targets).square().mean(),
            "entropy": -entropy_weight * entropies.mean(),
        }
    )
