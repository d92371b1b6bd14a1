"""The training loop of every stage: training from scratch, learned gates, recovery and its control."""

import atexit
import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn

from trimbre.config import PRECISIONS
from trimbre.data.batches import Batch
from trimbre.errors import OptionError, UserError, one_of
from trimbre.models.device import resolve_device
from trimbre.progress import progress
from trimbre.training.cpu_kernels import CpuKernels, keep_more_kernels
from trimbre.training.distributed import GradientSync, leave_group, main_process_threads, on_main_process
from trimbre.training.resume import load_state, save_state

TITLES = {"train": "training", "learn": "gates", "recover": "recovery"}
"""What progress calls a stage, where it is not the name that its random numbers and states go by."""


@dataclass(frozen=True)
class FitResult:
    """Steps, audio and time of a stage of training, and its validation curve."""

    steps: int
    rate: float
    """Peak learning rate of the weights."""
    audio_seconds: float
    """Seconds of audio seen by all processes; an utterance counts every time that it is seen."""
    minutes: float
    """Wall-clock time, over all the sittings of a resumed run."""
    curve: tuple[Mapping[str, float], ...]
    """What `validate` returned, each with its step and the seconds of audio seen by then."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def fit(
    *,
    stage: str,
    steps: int,
    batches: Callable[[int], Iterator[Batch]],
    objective: Callable[[Batch, int], Mapping[str, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    modules: Mapping[str, nn.Module],
    accelerator: Accelerator,
    seed: int,
    accumulate: int = 1,
    schedule: Callable[[int], float] = lambda step: 1.0,
    clip_norm: float = 1.0,
    on_step: Callable[[int], Mapping[str, float]] | None = None,
    validate: Callable[[int], Mapping[str, float]] | None = None,
    validate_every: int = 0,
    state_dir: Path | None = None,
    save_every: int = 0,
) -> FitResult:
    """Train for `steps` steps, going on from the newest state in `state_dir` if there is one.

    The random numbers of every step follow from (seed, stage, step, rank), so that a resumed run repeats an
    uninterrupted one bit for bit. All processes hold the same weights; gradients and norm statistics are averaged after
    every step. The main process validates, saves and shows the progress.

    Args:
        stage: name of the stage, which random numbers and saved states go by.
        batches: number of batches to skip -> endless batches, of this process's share of the data.
        accumulate: batches in one step.
        objective: (batch, step) -> terms of the loss, their sum as `loss`; the others are only shown.
        modules: what is trained, by the name that its state is saved under.
        optimizers: that of the weights first.
        schedule: step, from 0 -> factor on every optimizer's learning rate.
        clip_norm: largest norm of the gradient.
        on_step: called after step n, counted from 1; what it returns is shown.
        validate: called every `validate_every` steps and at the end; models are back in train mode afterwards.

    Raises:
        UserError: the loss is no longer a finite number.
        KeyboardInterrupt: it was stopped; where `state_dir` is given, the same call goes on from there.
    """
    figures: dict[str, Any] = {"audio_seconds": 0.0, "minutes": 0.0, "curve": []}
    done = 0
    if state_dir is not None and (found := load_state(state_dir, modules=modules, optimizers=optimizers)):
        done = found.pop("step")
        figures = found
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    stream = batches(done * accumulate) if done < steps else iter(())
    sync = GradientSync(accelerator, parameters, modules.values())
    on_cpu = accelerator.device.type == "cpu"
    began = time.monotonic() - 60 * figures["minutes"]

    within_step = False
    """Within a step weights, statistics and gates do not belong together: no state to save."""

    def keep() -> None:
        if state_dir is not None and accelerator.is_main_process:
            figures["minutes"] = (time.monotonic() - began) / 60
            save_state(state_dir, done, modules=modules, optimizers=optimizers, numbers=figures)

    def validated() -> Mapping[str, float]:
        """Validate if it is due; a run that was stopped while it validated does so when it goes on."""
        due = done == steps or (validate_every and done and done % validate_every == 0)
        if validate is None or not due or any(point["step"] == done for point in figures["curve"]):
            return {}
        with main_process_threads(accelerator):
            found = on_main_process(accelerator, partial(validate, done))
        for module in modules.values():
            module.train()
        figures["curve"].append({"step": done, "audio_seconds": figures["audio_seconds"], **found})
        return found

    with progress(TITLES.get(stage, stage), steps, done=done, shown=accelerator.is_main_process) as show:
        try:
            show(done, **validated())
            while done < steps:
                set_seed(_number(seed, stage, done, accelerator.process_index) % 2**32)
                for optimizer, given in zip(optimizers, rates, strict=True):
                    for group, rate in zip(optimizer.param_groups, given, strict=True):
                        group["lr"] = rate * schedule(done)
                taken = [next(stream) for _ in range(accumulate)]
                with _unbroken():
                    within_step = True
                    shown: dict[str, float] = {}
                    for batch in taken:
                        with CpuKernels() if on_cpu else nullcontext():
                            with accelerator.autocast():
                                terms = objective(batch.to(accelerator.device), done)
                            accelerator.backward(terms["loss"] / accumulate)
                        for name, term in terms.items():
                            shown[name] = shown.get(name, 0.0) + float(term.detach()) / accumulate
                    loss, seconds = sync.average(shown["loss"], sum(batch.seconds for batch in taken))
                    if not math.isfinite(loss):
                        raise UserError(
                            f"the loss is {loss} at step {done + 1} of {stage}: start again with a lower learning rate"
                        )
                    nn.utils.clip_grad_norm_(parameters, clip_norm)
                    for optimizer in optimizers:
                        optimizer.step()
                        optimizer.zero_grad()
                    done += 1
                    figures["audio_seconds"] += seconds
                    if on_step is not None:
                        shown |= on_step(done)
                    within_step = False
                show(done, **shown)
                show(done, **validated())
                if done == steps or (save_every and done % save_every == 0):
                    keep()
        except KeyboardInterrupt:
            if not within_step:
                keep()
            raise
    minutes = (time.monotonic() - began) / 60
    return FitResult(steps, rates[0][0], figures["audio_seconds"], minutes, tuple(figures["curve"]))


def cosine(steps: int, warmup: int, floor: float = 0.01) -> Callable[[int], float]:
    """Factor on the learning rate by step: linear warm-up over `warmup` steps, then half a cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def accelerator_for(precision: str, device: str = "auto") -> Accelerator:
    """An Accelerator for a precision and a device.

    Args:
        precision: `bf16`, `fp32`, or `auto`: bf16 where the device multiplies it fast.
        device: a name as `resolve_device` takes it; with an index for one process alone.

    Raises:
        UserError: no such precision, or no such device on this machine.
    """
    one_of("precision", precision, PRECISIONS)
    place = resolve_device(device)
    if precision == "auto":
        precision = "bf16" if _fast_bfloat16(place) else "fp32"
    atexit.register(leave_group)
    keep_more_kernels()
    wanted = "bf16" if precision == "bf16" else "no"
    on_cpu = place.type == "cpu"
    if place.index is not None and not on_cpu:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise OptionError("device", device, "several processes take one device each: leave the index out")
        torch.accelerator.set_device_index(place.index)
    # Accelerate keeps a process to its first precision and device, but a Python session may do several runs.
    if AcceleratorState._shared_state:
        now = AcceleratorState()
        if now.mixed_precision != wanted or (now.device.type == "cpu") != on_cpu:
            AcceleratorState._reset_state(reset_partial_state=(now.device.type == "cpu") != on_cpu)
    # Without a GPU, Accelerate finds torchrun's processes only if the CPU is asked for.
    return Accelerator(mixed_precision=wanted, cpu=on_cpu)


@contextmanager
def _unbroken() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; a second one interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[Any] = []

    def hold(number: int, frame: Any) -> None:
        pressed.append(frame)
        if len(pressed) > 1 and callable(usual):
            usual(number, frame)

    usual = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capability = torch.backends.cpu.get_cpu_capability()
    return device.type == "cpu" and "AVX512" in capability and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _number(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")
