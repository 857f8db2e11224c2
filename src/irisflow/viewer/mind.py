"""The agent as the viewer uses it: frames in, tokens, pictures and thoughts out, all NumPy."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from irisflow.behaviour.agent import Agent
from irisflow.viewer.scene import Picture, Thought

Frame = UInt8[np.ndarray, "3 height width"]
Tokens = Int64[Tensor, "1 tokens"]


class Mind:
    """Tokenizer and policy of an agent, with the policy's memory of one stream of frames."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent.eval()
        self._device = next(agent.parameters()).device
        self._state = agent.actor_critic.initial_state(1)
        self._decoded: tuple[Tokens, Tensor] | None = (
            None  # the newest picture: shown, and seen by the policy
        )

    def begin(self) -> None:
        """Forget all frames: an episode starts."""
        self._state = self._agent.actor_critic.initial_state(1)

    def tokens(self, frames: UInt8[np.ndarray, "time 3 height width"]) -> Int64[Tensor, "time tokens"]:
        """Return the tokens of frames."""
        return self._agent.tokenizer.encode(self._floats(frames))

    def grid(self, tokens: Tokens) -> Int64[np.ndarray, "rows columns codes"]:
        """Return the tokens of one frame as they lie in its picture."""
        side = self._agent.tokenizer.grid
        return np.asarray(tokens.cpu().numpy()).reshape(side, side, -1)

    def picture(self, tokens: Tokens) -> Picture:
        """Return the picture that tokens stand for."""
        decoded = self._decode(tokens)[0]
        return np.ascontiguousarray((decoded * 255).round().byte().permute(1, 2, 0).cpu().numpy())

    @torch.no_grad()
    def think(self, tokens: Tokens, frame: Frame | None = None) -> Thought:
        """Return the policy's thought on the next frame of its stream, which is `frame` where it is a real one."""
        output, self._state = self._agent.actor_critic(self._view(tokens, frame), self._state)
        logs = output.logits[0].double().log_softmax(dim=-1)
        return Thought(
            np.asarray(logs.exp().cpu().numpy()),
            float(output.values[0]),
            float(-(logs.exp() * logs).sum()),
        )

    def remember(self, frames: UInt8[np.ndarray, "time 3 height width"]) -> None:
        """Begin anew and see these frames, without thoughts of them."""
        self.begin()
        for frame in frames:
            self.think(self.tokens(frame[None]), frame)

    def _view(self, tokens: Tokens, frame: Frame | None) -> Tensor:
        if frame is not None and self._agent.actor_critic.use_original_obs:
            return self._floats(frame[None])
        is_picture = self._agent.actor_critic.sees == "pictures"
        return self._decode(tokens) if is_picture else self._agent.view(tokens)

    def _decode(self, tokens: Tokens) -> Tensor:
        if self._decoded is None or self._decoded[0] is not tokens:
            self._decoded = (tokens, self._agent.tokenizer.decode(tokens))
        return self._decoded[1]

    def _floats(self, frames: UInt8[np.ndarray, "time 3 height width"]) -> Tensor:
        return torch.from_numpy(np.array(frames)).to(self._device).float() / 255


def drawn(thought: Thought, *, temperature: float, rng: np.random.Generator) -> int:
    """Return an action by the policy's probabilities, sharpened or flattened by the temperature."""
    logits = np.log(np.maximum(thought.probabilities, 1e-30)) / temperature
    return int(np.argmax(logits + rng.gumbel(size=len(logits))))
