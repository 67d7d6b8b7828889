"""One worker's part of a pipeline: forward and backward passes of its stage, and what travels to the stages beside it.

Activations go to the next stage and gradients back, each as one message of a shape that everybody knows beforehand. A
worker keeps at most as many micro-batches as there are stages from its own to the end. This module knows one stage and
its neighbours, not the optimizer, nor what becomes of the gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import nn

from ft_horovod.core.errors import Stalled
from ft_horovod.core.spans import Spans
from ft_horovod.membership.links import Links
from ft_horovod.membership.protocol import Handle
from ft_horovod.training.stages.flow import Flow

_POLLS_S = (0.00005, 0.0005)  # short at first, then longer
_SHORT_POLLS = 50

Shape = tuple[int, ...]


@dataclass(frozen=True)
class MicroBatch:
    """Some samples of a step, and the pipeline they take."""

    number: int
    way: int
    positions: Spans


@dataclass(frozen=True)
class Place:
    """Which stage this is, and the shapes of one sample's input and output."""

    stage: int
    stages: int
    into: Shape
    out: Shape
    device: torch.device

    @property
    def first(self) -> bool:
        return self.stage == 0

    @property
    def last(self) -> bool:
        return self.stage == self.stages - 1


class BothEnds(Protocol):
    """What the first and the last stage do beyond passes."""

    def images(self, one: MicroBatch) -> torch.Tensor:
        """The input of a micro-batch."""
        ...

    def finish(self, one: MicroBatch, scores: torch.Tensor) -> torch.Tensor:
        """From the scores to what is differentiated."""
        ...


@dataclass
class _InFlight:
    """A micro-batch between its forward and its backward pass."""

    x: torch.Tensor
    y: torch.Tensor
    arrives: torch.Tensor | None = None  # the gradient of y
    handle: Handle | None = None


@dataclass
class _Wires:
    """What is on its way."""

    inputs: dict[int, tuple[torch.Tensor, Handle]] = field(default_factory=dict)
    sending: list[tuple[Handle, torch.Tensor]] = field(default_factory=list)


class StagePasses:
    """Runs the passes of one worker."""

    def __init__(self, net: nn.Module, place: Place, links: Links, beat: Callable[[], None], stall_s: float):
        self._net, self._place, self._links, self._beat, self._stall_s = net, place, links, beat, stall_s
        self.waited_s = 0.0  # for other stages, in the last `train`

    def train(self, work: Sequence[MicroBatch], ends: BothEnds, last_backward: Callable[[], None]) -> None:
        """All passes of a step. `last_backward` is called right before the backward pass that completes the gradients.

        Gradients are added to those that the parameters have. Raises MembershipError.
        """
        flow = Flow([one.number for one in work], self._place.stage, self._place.stages)
        by_number = {one.number: one for one in work}
        kept: dict[int, _InFlight] = {}
        wires = _Wires()
        self.waited_s = 0.0
        while not flow.done:
            self._expect(flow, by_number, wires)
            backward, forward = flow.next_backward, flow.next_forward
            if backward is not None and self._has_come(kept[backward].handle):
                if backward == work[-1].number:
                    last_backward()
                self._backward(by_number[backward], kept.pop(backward), wires)
                flow.went_backward()
            elif forward is not None and (self._place.first or self._has_come(wires.inputs[forward][1])):
                kept[forward] = self._forward(by_number[forward], wires, ends)
                flow.went_forward()
            else:
                self._wait(partial(self._ready, backward, forward, kept, wires))
        self._drain(wires)

    def infer(self, work: Sequence[MicroBatch], ends: BothEnds) -> None:
        """Forward passes alone; the last stage's `ends.finish` is called with the scores. Raises MembershipError."""
        wires = _Wires()
        for one in work:
            if not self._place.first:
                buffer = self._buffer(one, self._place.into)
                handle = self._links.receive(one.way, self._place.stage - 1, 2 * one.number, buffer)
                wires.inputs[one.number] = (buffer, handle)
                self._wait(handle.done)
            with torch.inference_mode():
                y = self._net(self._input(one, wires, ends))
            if self._place.last:
                ends.finish(one, y)
            else:
                self._send(one, self._place.stage + 1, 2 * one.number, y, wires)
            while len(wires.sending) > self._place.stages:  # the next stage need not buffer more than in training
                self._wait(wires.sending[0][0].done)
                del wires.sending[0]
        self._drain(wires)

    # -- passes --------------------------------------------------------------------------------------------------

    def _forward(self, one: MicroBatch, wires: _Wires, ends: BothEnds) -> _InFlight:
        x = self._input(one, wires, ends)
        if not self._place.first:
            x.requires_grad_()
        y = self._net(x)
        if self._place.last:
            return _InFlight(x, ends.finish(one, y))
        self._send(one, self._place.stage + 1, 2 * one.number, y.detach(), wires)
        gradient = self._buffer(one, self._place.out)
        handle = self._links.receive(one.way, self._place.stage + 1, 2 * one.number + 1, gradient)
        return _InFlight(x, y, gradient, handle)

    def _backward(self, one: MicroBatch, flight: _InFlight, wires: _Wires) -> None:
        if flight.arrives is None:
            flight.y.backward()
        else:
            flight.y.backward(flight.arrives.to(self._place.device))
        if not self._place.first:
            assert flight.x.grad is not None
            self._send(one, self._place.stage - 1, 2 * one.number + 1, flight.x.grad, wires)

    def _input(self, one: MicroBatch, wires: _Wires, ends: BothEnds) -> torch.Tensor:
        if self._place.first:
            return ends.images(one).to(self._place.device)
        return wires.inputs.pop(one.number)[0].to(self._place.device)

    # -- wires ---------------------------------------------------------------------------------------------------

    def _expect(self, flow: Flow, by_number: dict[int, MicroBatch], wires: _Wires) -> None:
        """Be ready to receive the inputs that may come now."""
        if self._place.first:
            return
        for number in flow.expected:
            if number not in wires.inputs:
                one = by_number[number]
                buffer = self._buffer(one, self._place.into)
                handle = self._links.receive(one.way, self._place.stage - 1, 2 * number, buffer)
                wires.inputs[number] = (buffer, handle)

    def _send(self, one: MicroBatch, stage: int, tag: int, tensor: torch.Tensor, wires: _Wires) -> None:
        tensor = tensor.cpu().contiguous()
        wires.sending = [(handle, kept) for handle, kept in wires.sending if not handle.done()]
        wires.sending.append((self._links.send(one.way, stage, tag, tensor), tensor))

    def _buffer(self, one: MicroBatch, shape: Shape) -> torch.Tensor:
        return torch.empty(len(one.positions), *shape)

    @staticmethod
    def _has_come(handle: Handle | None) -> bool:
        return handle is None or handle.done()

    def _ready(self, backward: int | None, forward: int | None, kept: dict[int, _InFlight], wires: _Wires) -> bool:
        return (backward is not None and self._has_come(kept[backward].handle)) or (
            forward is not None and forward in wires.inputs and wires.inputs[forward][1].done()
        )

    def _drain(self, wires: _Wires) -> None:
        for handle, _ in wires.sending:
            self._wait(handle.done)

    def _wait(self, true: Callable[[], bool]) -> None:
        """Until something is true; a beat and a look at the membership at every poll. Raises MembershipError."""
        started = time.monotonic()
        polls = 0
        while not true():
            self._links.check()
            self._beat()
            polls += 1
            time.sleep(_POLLS_S[polls > _SHORT_POLLS])
            if time.monotonic() - started > self._stall_s:
                raise Stalled(f"nothing came from another stage for {self._stall_s:.0f} s although nobody died")
        self.waited_s += time.monotonic() - started
