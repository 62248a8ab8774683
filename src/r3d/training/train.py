"""Training a network on the clips of an annotation, resumable at every step.

A training continues from its run folder (`r3d.training.runfolder`) exactly where an earlier process
left it: order of samples and augmentation depend on seed, epoch and sample only, everything else is
in the state (`r3d.training.state`).
"""

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import TrainingClips, ValidationClips
from r3d.clips.loader import (
    ClipBatch,
    ClipLoader,
    EpochSampler,
    WorkerLost,
    make_loader,
    worker_count,
)
from r3d.clips.modelinput import model_input
from r3d.compute.device import (
    autocast,
    choose_device,
    enough_memory,
    memory_format,
    same_bits,
    use_cores,
)
from r3d.compute.distributed import World, join_world
from r3d.config.networks import misfit, with_start
from r3d.config.options import RunOptions, TrainingOptions
from r3d.errors import InputError, Stopped, WriteError
from r3d.files import AnyPath
from r3d.frames.form import form_of_frames
from r3d.frames.layouts import FileType
from r3d.frames.stores import open_store
from r3d.models.checkpoint import Checkpoint, not_finite, read_checkpoint, write_checkpoint
from r3d.models.fetching import present_file
from r3d.models.known import read_known
from r3d.obstacles import need_writable
from r3d.training.optim import step_scheduler
from r3d.training.runfolder import RunFolder, TrainingLogs, fingerprint, tensorboard_writer
from r3d.training.schedule import MultigridSchedule, ShapedBatches, make_schedule
from r3d.training.state import TrainState
from r3d.training.step import TrainStep, batch_sums
from r3d.workflow.codeversion import code_version

# Losses are fetched from the device and logged every so many steps, so that it need not wait.
_FLUSH_STEPS = 10
_SAVE_SECONDS = 600
# So many videos tell what the frames are like.
_LOOKED_AT = 16

_DEFAULT_RUN = RunOptions()

_log = logging.getLogger(__name__)


def train(
    options: TrainingOptions,
    *,
    annotation: AnyPath,
    frames: AnyPath,
    file_type: FileType = "jpg",
    pretrained: AnyPath | None = None,
    checkpoints: AnyPath,
    model: AnyPath,
    train_log: AnyPath,
    val_log: AnyPath,
    speed_log: AnyPath | None = None,
    run: RunOptions = _DEFAULT_RUN,
    n_cores: int | None = None,
) -> None:
    """Train a network, or go on training it, and write the final model and the logs.

    >>> import r3d
    >>> options = r3d.TrainingOptions(
    ...     model_depth=10, resnet_widen_factor=0.25, sample_size=32, batch_size=4, n_epochs=1
    ... )
    >>> r3d.train(
    ...     options,
    ...     annotation="annotation.json",
    ...     frames="frames",
    ...     checkpoints="checkpoints",
    ...     model="trained.pth",
    ...     train_log="train.log",
    ...     val_log="val.log",
    ...     run=r3d.RunOptions(n_threads=0),
    ... )

    Args:
        annotation: annotation JSON with a training and a validation subset.
        frames: folder of the frame store.
        file_type: the kind of the frame store.
        pretrained: checkpoint to start from, or its name in `models` or torchvision
            (`r3d.load_model`); the head is replaced by a fresh one. What `options` are not
            given of the network and of the normalisation is its.
        checkpoints: folder of the run folders.
        model, train_log, val_log: files to write.
        speed_log: one more: clips and seconds of each epoch's training, and how many of these the
            training waited for clips. An epoch that was stopped counts from where it went on.
        run: how to run, which changes no result beyond rounding.
        n_cores: cores to use; all by default.

    Raises:
        InputError: if an input does not fit, or the loss becomes infinite.
        Stopped: after SIGTERM or SIGINT, once the state is saved.
    """
    annotation = Path(annotation)
    if pretrained is not None:
        pretrained = present_file(pretrained)
        options = with_start(options, read_known(pretrained))
    for output in (model, train_log, val_log):
        need_writable(output)
    need_writable(checkpoints, folder=True)
    if run.tensorboard:
        tensorboard_writer()  # if it is missing, that is said now and not after the loading
    device = choose_device(no_cuda=run.no_cuda)
    use_cores(n_cores)
    with (
        same_bits(run.deterministic),
        join_world(device) as world,
        _stop_requests() as stop_requested,
    ):
        device = world.own(device)
        if options.batch_size % world.size:
            raise InputError(
                f"batch_size: {options.batch_size} is the whole batch and must be a multiple of "
                f"the {world.size} processes that share it"
            )
        store = open_store(frames, file_type)
        samples = read_annotation(annotation, subset="training", store=store)
        training_clips = TrainingClips(samples, store, options)
        if len(training_clips) < world.size:
            raise InputError(
                f"{annotation}: {len(training_clips)} training videos are too few for "
                f"{world.size} processes"
            )
        validation_clips = validation = None
        if not options.no_val:
            validation = read_annotation(annotation, subset="validation", store=store)
            validation_clips = ValidationClips(validation, store, options)

        state = TrainState(options, samples.labels, pretrained, device, run.memory_format)
        state.frames = form_of_frames(store, samples.places(store, _LOOKED_AT))
        resumed = [Path(options.resume_path)] if options.resume_path else []
        if resumed and not resumed[0].is_file():
            raise InputError(
                f"resume_path: {options.resume_path!r} is no file; give the path of a checkpoint"
            )
        if resumed and (different := misfit(read_known(resumed[0]), options, whole=True)):
            raise InputError(f"resume_path: {different}")
        started = [state.start] if state.start else []
        contents = [part.digest(store) for part in (samples, validation) if part is not None]
        folder = _run_folder(checkpoints, fingerprint(options, resumed, [*contents, *started]))
        # Earlier versions told trainings apart by the whole file of the annotation, and the first
        # ones by the file of pretrained weights, too, and not by where a training goes on from.
        files = [annotation, *([pretrained] if pretrained else [])]
        of_files = _run_folder(checkpoints, fingerprint(options, [annotation, *resumed], started))
        earliest = _run_folder(checkpoints, fingerprint(options, files))
        code = code_version("training.train")
        with folder.lock() if world.is_main else nullcontext():
            if world.is_main:
                folder.adopt(of_files)
                if earliest != of_files:
                    _take_over(folder, earliest, options)
                folder.set_aside_finished(options.n_epochs, code)
                folder.path.mkdir(exist_ok=True)
            world.barrier()
            _resume(state, folder)
            # Its batches follow the options that hold from here on, which a file may have.
            training = Training(
                state,
                training_clips,
                validation_clips,
                folder,
                run=run,
                device=device,
                world=world,
                code=code,
                stop_requested=stop_requested,
            )
            training.check_place()
            with enough_memory(
                f"lower batch_size ({options.batch_size}), compute each batch in more "
                f"accumulate_steps ({options.accumulate_steps}), or lower sample_size or "
                "sample_duration; what is trained so far is kept"
            ):
                training.run_epochs()
            if world.is_main:
                _write_model(state, folder, Path(model))
                folder.copy_logs(
                    Path(train_log),
                    Path(val_log),
                    None if speed_log is None else Path(speed_log),
                    n_epochs=options.n_epochs,
                )


def _run_folder(checkpoints: AnyPath, name: str) -> RunFolder:
    return RunFolder(Path(checkpoints) / name)


def _take_over(folder: RunFolder, earlier: RunFolder, options: TrainingOptions) -> None:
    """Go on in the folder of an earlier version, in which `resume_path` did not count.

    Raises:
        InputError: if the training there went on from a file, which may be this one or another.
    """
    if not options.resume_path:
        folder.adopt(earlier)
    elif not folder.path.exists() and earlier.begun_from_a_file():
        raise InputError(
            f"resume_path: {options.resume_path}: the training in {earlier.path} went on from a "
            "file, and the version that began it did not note which; leave resume_path out to go "
            "on with it, or delete that folder to begin from the file"
        )


def _resume(state: TrainState, folder: RunFolder) -> None:
    """Go on from a state of the run folder, else from `resume_path`, if given."""
    options = state.options
    found = folder.state_before(options.n_epochs, with_best=options.final_model == "best")
    if found is not None:
        path, checkpoint = found
        state.load(checkpoint, path, own=True)
    elif options.resume_path:
        path = Path(options.resume_path)
        checkpoint = read_checkpoint(path)
        if checkpoint.epoch > options.n_epochs:
            raise InputError(
                f"resume_path: {path} has done {checkpoint.epoch} epochs, which is more than "
                f"n_epochs: {options.n_epochs}; raise n_epochs, or give an earlier checkpoint"
            )
        state.load(checkpoint, path)
        state.progress.forget_best()  # the weights of which are elsewhere, if anywhere
    else:
        if folder.latest.is_file():
            _log.warning(
                "no state in %s can be gone on from: the training begins anew", folder.path
            )
        return
    done = (state.progress.epoch, state.progress.step)
    _log.info("resumed from %s: %d epochs and %d steps are done", path, *done)


def _write_model(state: TrainState, folder: RunFolder, model: Path) -> None:
    """Write the final network: that of the last epoch, or of the best."""
    best_epoch = state.progress.best_epoch
    if state.options.final_model == "best" and best_epoch:
        found = folder.state_of(best_epoch)
        assert found is not None
        path, checkpoint = found
        state.load(checkpoint, path, own=True)
    final = state.final_model()
    _write(model, final)
    network = final.architecture.name if final.architecture else state.options.model
    _log.info(
        "%s: %s of %d classes, after epoch %d", model, network, len(final.labels or ()), final.epoch
    )


def _write(path: Path, checkpoint: Checkpoint) -> None:
    try:
        write_checkpoint(path, checkpoint)
    except WriteError as error:
        raise InputError(
            f"checkpoint {error}; the training goes on from the state before it once that is mended"
        ) from None


class Training:
    """The loop over epochs and steps, in one of `world.size` processes that share each batch."""

    def __init__(
        self,
        state: TrainState,
        training_clips: TrainingClips,
        validation_clips: ValidationClips | None,
        folder: RunFolder,
        *,
        run: RunOptions,
        device: torch.device,
        world: World,
        code: str,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.state, self.options, self.folder = state, state.options, folder
        self.n_clips = len(training_clips) * self.options.crops_per_clip  # of an epoch
        self.run, self.device, self.world = run, device, world
        self.stop_requested = stop_requested
        self.code = code
        self.schedule = make_schedule(self.options, self.n_clips, world.size)
        self.losses: list[Tensor] = []  # of the steps since the last flush, still on the device
        self.asked_to_stop: Tensor | None = None  # how many processes, as of the last step
        self.clips, self.seconds, self.waiting = 0, 0.0, 0.0  # of the epoch, in this process

        local_batch_size = self.options.batch_size // world.size
        pin_memory = device.type == "cuda"
        make_order = partial(
            EpochSampler,
            len(training_clips),
            seed=self.options.manual_seed,
            classes=training_clips.classes,
            class_balance=self.options.class_balance,
            crops_per_clip=self.options.crops_per_clip,
        )
        self.order: EpochSampler | ShapedBatches
        if isinstance(self.schedule, MultigridSchedule):
            self.order = ShapedBatches(
                self.schedule, make_order(), rank=world.rank, world_size=world.size
            )
        else:
            self.order = make_order(
                batch_size=self.options.batch_size, rank=world.rank, world_size=world.size
            )
        self.training_batches = make_loader(
            training_clips,
            self.order,
            batch_size=local_batch_size if isinstance(self.order, EpochSampler) else None,
            n_workers=worker_count(run),
            pin_memory=pin_memory,
        )
        self.validation_batches = None
        if validation_clips is not None:
            self.validation_batches = make_loader(
                validation_clips,
                validation_clips.shard(world.rank, world.size),
                batch_size=local_batch_size,
                n_workers=worker_count(run),
                pin_memory=pin_memory,
            )

    def run_epochs(self) -> None:
        """Train to the last epoch, saving on the way.

        Raises:
            Stopped: when told to stop; the state is saved.
            InputError: when the loss is no longer finite.
        """
        progress, n_epochs = self.state.progress, self.options.n_epochs
        if progress.epoch == n_epochs:
            return
        self.logs = None
        if self.world.is_main:
            self.logs = TrainingLogs(
                self.folder.path, progress.epoch, progress.step, tensorboard=self.run.tensorboard
            )
        self.train_step = TrainStep(self.state, run=self.run, device=self.device, world=self.world)
        if self.world.is_main:
            _log.info(
                "training on %d clips an epoch, in batches of %d, in %s on %s, %d processes",
                *(self.n_clips, self.options.batch_size, self.state.dtype),
                *(self.device, self.world.size),
            )
        progress_bar = tqdm(
            initial=self.schedule.n_clips_before(progress.epoch) + progress.seen,
            total=self.schedule.n_clips_before(n_epochs),
            unit="clip",
            disable=not self.world.is_main,
            mininterval=1 if sys.stderr.isatty() else 30,
        )
        with logging_redirect_tqdm(), progress_bar as self.bar:
            while progress.epoch < n_epochs:
                self.bar.set_description(f"epoch {progress.epoch + 1}/{n_epochs}")
                with self._saved_if_a_worker_is_lost():
                    self._train_epoch()
                    self._finish_epoch()

    def check_place(self) -> None:
        """Check that the steps done of an epoch under way are steps of these batches.

        Raises:
            InputError: if they are not, as the batches of a file gone on from may be others.
        """
        progress, size = self.state.progress, self.options.batch_size
        epoch, step = progress.epoch, progress.step
        if not step <= self.schedule.n_steps(epoch) or progress.seen != self.schedule.seen(
            epoch, step
        ):
            raise InputError(
                f"resume_path: {self.options.resume_path} stopped within an epoch, after "
                f"{step} steps and {progress.seen} clips, which does not fit batches of "
                f"{size} of {self.n_clips} clips; give a checkpoint of an epoch's end "
                "(save_<epoch>.pth), or the batch_size, crops_per_clip and annotation of its "
                "training"
            )

    def _train_epoch(self) -> None:
        progress = self.state.progress
        saved = begun = time.monotonic()
        self.clips, self.waiting = 0, 0.0
        self.state.network.train()
        schedule, epoch = self.schedule, progress.epoch
        n_steps = schedule.n_steps(epoch)
        self.order.set_epoch(epoch, start=progress.seen)
        remaining = self._waited_for(islice(self.training_batches, n_steps - progress.step))
        for step, batch in enumerate(remaining, start=progress.step + 1):
            n_clips, grid = schedule.n_clips(epoch, step), schedule.grid(epoch, step)
            self.clips += n_clips
            self.losses.append(self.train_step(batch, number=step, n_clips=n_clips, grid=grid))
            self.bar.update(n_clips)
            stop = self._anyone_asks_to_stop()
            if stop or step == n_steps or len(self.losses) == _FLUSH_STEPS:
                self._flush()
                if stop or time.monotonic() - saved > _SAVE_SECONDS:
                    self._save(self.folder.latest)
                    saved = time.monotonic()
            if stop:
                self.world.barrier()  # a process that ends early takes the main one along
                raise Stopped(
                    f"stopped in epoch {progress.epoch + 1} after step {step}; the state is saved"
                )
        self.seconds = time.monotonic() - begun

    def _waited_for(self, batches: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
        """The batches; counts the time until each is there."""
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            self.waiting += time.monotonic() - begun
            if batch is None:
                return
            yield batch

    @contextmanager
    def _saved_if_a_worker_is_lost(self) -> Iterator[None]:
        """Save the steps that are done, unless other processes may be in the midst of one."""
        try:
            yield
        except WorkerLost as error:
            if self.world.size > 1:
                raise
            if self.losses:
                self._flush()
            self._save(self.folder.latest)
            raise WorkerLost(f"{error}; the state is saved") from None

    def _flush(self) -> None:
        """Fetch the losses since the last flush from the device, log them and count the steps."""
        progress, epoch = self.state.progress, self.state.progress.epoch + 1
        rows = []
        for loss, correct, seen in self.world.sum(torch.stack(self.losses)).tolist():
            progress.add(loss, correct, int(seen))
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss} in epoch {epoch}, step {progress.step}")
            iteration = self.schedule.n_steps_before(progress.epoch) + progress.step
            means = (loss / seen, correct / seen)
            rate = self.state.learning_rate * self.schedule.grid(progress.epoch, progress.step).rate
            rows.append((epoch, progress.step, iteration, *means, rate))
        self.losses.clear()
        if self.logs is not None:
            self.logs.batches(rows)
        self.bar.set_postfix_str(
            f"loss {progress.loss / progress.seen:.3f}, acc {progress.correct / progress.seen:.3f}",
            refresh=False,
        )

    def _finish_epoch(self) -> None:
        """Validate, log, go on to the next learning rate and save."""
        state, progress = self.state, self.state.progress
        train_row = (
            progress.epoch + 1,
            progress.loss / progress.seen,
            progress.correct / progress.seen,
            state.learning_rate,
        )
        loss, accuracy = math.nan, math.nan
        if self.validation_batches is not None:
            self._save(self.folder.latest)  # a validation is not interrupted, it may be killed
            loss, accuracy = self._validate(self.validation_batches)
            if not math.isfinite(loss):
                raise self._diverged(f"the validation loss is {loss} in epoch {train_row[0]}")
        step_scheduler(state.scheduler, loss)
        is_best = progress.finish_epoch(accuracy, loss)
        if self.logs is not None:
            val_row = (progress.epoch, loss, accuracy) if self.validation_batches else None
            speed_row = (
                progress.epoch,
                self.clips,
                round(self.seconds, 3),
                round(self.waiting, 3),
            )
            self.logs.epoch(train_row, val_row, speed_row)
            _log.info(
                "epoch %d: training loss %.4f, accuracy %.4f, learning rate %g; "
                "validation loss %.4f, accuracy %.4f",
                *(*train_row, loss, accuracy),
            )
        # The latest state comes last: one that is resumed from has the others beside it.
        if is_best:
            self._save(self.folder.best)
        if progress.epoch % self.run.checkpoint == 0:
            self._save(self.folder.periodic(progress.epoch))
        self._save(self.folder.latest)

    @torch.inference_mode()
    def _validate(self, batches: ClipLoader) -> tuple[float, float]:
        """Mean loss and accuracy over the validation clips."""
        network = self.state.final_network.eval()
        self.world.share_buffers(network)
        # Without gradients, which is why it may be another one than that of the steps.
        layout = memory_format(self.device, self.state.dtype, self.state.layout, training=False)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for batch in batches:
            clips = model_input(batch, self.options, self.device, layout)
            labels = batch.labels.to(self.device, non_blocking=True)
            with autocast(self.device, self.state.dtype):
                scores = network(clips).float()
            sums += batch_sums(
                functional.cross_entropy(scores, labels, reduction="sum"), scores, labels
            )
        loss, correct, seen = self.world.sum(sums).tolist()
        return loss / seen, correct / seen

    def _anyone_asks_to_stop(self) -> bool:
        """Whether any process was told to stop, as all of them know it.

        With several, it is what they said a step ago: this step's answer is still being computed
        behind the step itself, and no GPU is to wait for it.
        """
        if self.world.size == 1:
            return self.stop_requested()
        earlier = self.asked_to_stop
        asked = torch.full((), float(self.stop_requested()), device=self.device)
        self.asked_to_stop = self.world.sum(asked)
        return earlier is not None and bool(earlier > 0)

    def _save(self, path: Path) -> None:
        """Save the state, unless it is one that nothing can go on from.

        Raises:
            InputError: if weights or statistics are not finite, or the file cannot be written.
        """
        if not self.world.is_main:
            return
        networks = {
            id(network): network for network in (self.state.network, self.state.final_network)
        }
        for network in networks.values():
            if problem := not_finite(network.state_dict()):
                raise self._diverged(f"{problem} in epoch {self.state.progress.epoch + 1}")
        if path == self.folder.latest:
            self.folder.keep_previous()
        _write(path, self.state.checkpoint(self.code))

    def _diverged(self, what: str) -> InputError:
        return InputError(
            f"the training diverged: {what}; lower learning_rate ({self.options.learning_rate}), "
            "set warmup_epochs or clip_grad_norm, or precision: fp32"
        )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM or SIGINT has come since."""
    received: list[int] = []
    earlier = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
