"""Several processes that train one network: `torchrun --nproc-per-node N -m dinn360 train …`, by gloo or NCCL.

Every process takes its share of the same batch, which the seed and the step fix, so a step is the same on any number of
processes, up to rounding, which training amplifies over many steps.

Gradients are averaged by one explicit all-reduce: DistributedDataParallel would need a `forward` that is Algorithm 1,
and its hooks would have to search at each step which parameters take part (offsets are off at first, the z loss comes
every n-th step). The networks have at most a few million weights, so hiding the transfer behind the backward pass,
which is what those hooks are for, has little to gain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from engines.support.errors import UserError

DEVICES = ("auto", "cpu", "cuda")
PATIENCE = timedelta(hours=2)  # the others wait while the first one validates


@dataclass(frozen=True)
class Processes:
    """This process among those that train together. The first one (rank 0) writes all files and shows progress."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes, to the same bits on each of them."""
        if self.world == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._together(lambda: dist.all_reduce(flat))
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def largest(self, value: int) -> int:
        """The largest `value` that any process gives."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, device=self.device)
        self._together(lambda: dist.all_reduce(shared, dist.ReduceOp.MAX))
        return int(shared)

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.world > 1:
            self._together(dist.barrier)

    @staticmethod
    def _together(call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"torchrun: lost the connection to another process of this run: {reason}") from error


@contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """This process among those that torchrun started, or alone.

    device: "cpu", "cuda" (process n of a machine takes GPU n), or "auto": a GPU where there is one.

    Raises:
        UserError: no such device, or the others cannot be reached.
    """
    rank, world = _number("RANK"), _number("WORLD_SIZE", 1)
    place = _place(device, _number("LOCAL_RANK"))
    if world == 1:
        yield Processes(place)
        return
    Processes._together(lambda: _meet("nccl" if place.type == "cuda" else "gloo", rank, world))
    yield Processes(place, rank, world)
    # Not after an error: the others may be gone, and leaving in good order would wait for them.
    dist.destroy_process_group()


def restarted() -> bool:
    """Whether torchrun has started this process again, after one of the run was lost (`--max-restarts`)."""
    return _number("TORCHELASTIC_RESTART_COUNT") > 0


def _number(variable: str, default: int = 0) -> int:
    return int(os.environ.get(variable, default))


def _meet(backend: str, rank: int, world: int) -> None:
    """Forms the process group.

    torchrun keeps one store over its restarts, and in it the addresses of processes that are gone; so each start writes
    below a name of its own. On several machines the counts of restarts differ: there each start needs a store of its
    own, which torchrun makes with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    store, _, _ = next(rendezvous("env://", rank, world, timeout=PATIENCE))
    if _number("LOCAL_WORLD_SIZE", world) == world:
        store = dist.PrefixStore(f"start {_number('TORCHELASTIC_RESTART_COUNT')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)


def _place(device: str, local: int) -> torch.device:
    if device not in DEVICES:
        raise UserError(f"expected one of {', '.join(DEVICES)}, found {device!r}", "device")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise UserError(
            f"{device}: expected a GPU for process {local}, found {torch.cuda.device_count()} GPUs", "device"
        )
    place = torch.device("cuda", local)
    torch.cuda.set_device(place)
    return place
