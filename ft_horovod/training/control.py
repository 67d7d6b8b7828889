"""The control lane: a short vector that is summed with every step's gradients, as the tail of their first bucket.

It carries the loss, the proof of the samples, and wishes: because everybody sees the same sum, everybody leaves the
step loop at the same boundary without a message of its own.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import torch

_PIECE_BITS, _PIECES = 8, 7  # of a digest: pieces of up to 65,536 workers add up to less than 2**24
_SHIFTS = range(0, _PIECE_BITS * _PIECES, _PIECE_BITS)


class Control(msgspec.Struct, frozen=True):
    """What each worker puts in, and what all get out summed.

    In float32, as gradients are: sums of counts are exact below 2**24, those of digests below 2**56.
    """

    loss: float = 0.0
    correct: int = 0
    waited_s: float = 0.0  # for other stages
    samples: int = 0
    leave: int = 0  # workers that want to hand over and go
    invite: int = 0  # newcomers are wanted for members that are missing
    grow: int = 0  # newcomers are wanted on top
    ready: int = 0  # invited newcomers wait to be let in
    commit: int = 0  # it is time to commit to disk
    store: int = 0  # it is time to copy to host memory
    stored: int = 0  # members whose last copy there is whole
    digest: int = 0

    LENGTH: ClassVar[int] = 11 + _PIECES

    def to_tensor(self) -> torch.Tensor:
        """float32 `[18]`: the fields in their order, the digest in pieces of 8 bits, lowest first."""
        *plain, digest = msgspec.structs.astuple(self)
        pieces = [digest >> shift & (1 << _PIECE_BITS) - 1 for shift in _SHIFTS]
        return torch.tensor([*plain, *pieces], dtype=torch.float32)

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> Control:
        loss, correct, waited_s, *counts = tensor.tolist()
        samples, leave, invite, grow, ready, commit, store, stored, *pieces = map(round, counts)
        digest = sum(piece << shift for piece, shift in zip(pieces, _SHIFTS, strict=True))
        return cls(loss, round(correct), waited_s, samples, leave, invite, grow, ready, commit, store, stored, digest)

    @property
    def wants_change(self) -> bool:
        """Whether the membership is to change at this step's end."""
        return bool(self.leave or self.invite or self.grow or self.ready)
