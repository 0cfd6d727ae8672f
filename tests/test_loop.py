"""The loop's outputs besides parameters: held-out loss, events, a profile; and its errors."""

import contextlib
import dataclasses
import functools
import io
import json
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from players import loss_of
from running import files_of_at_most
from tensorboardX.proto.event_pb2 import Event
from tiny import tiny_config

from jaxdiff import data, recipes, train
from jaxdiff.recipes import Run
from jaxdiff.recipes.config import TrainingConfig
from jaxdiff.recipes.diffusion import assemble, fresh_state
from jaxdiff.recipes.held_out import held_out_loss
from jaxdiff.train import sharding
from jaxdiff.train.events import Events
from jaxdiff.train.output import unfailing
from jaxdiff.train.progress import Progress
from jaxdiff.train.updates import next_batch
from jaxdiff.typing import InputError

CONFIG = dataclasses.replace(
    tiny_config(), training=dataclasses.replace(tiny_config().training, eval_every=3, log_every=2)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("loop") / "run"
    return recipes.train(CONFIG, workdir, say=lambda line: None), workdir


def test_held_out_loss_is_that_of_the_averaged_model_on_the_test_split(trained):
    run, workdir = trained
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert [row["step"] for row in rows if "eval_loss" in row] == [3, 6]
    x, label = data.stack(data.load("toy:moons").test, limit=1024)
    whole = len(x) // 16 * 16
    batch = {"x": x[:whole], "label": label[:whole]}
    loss_fn = jax.jit(loss_of(run.model))
    expected = np.mean(loss_fn(run.params, jax.random.key(run.config.seed), batch))
    assert rows[-1]["eval_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_held_out_loss_is_the_same_each_time(trained):
    run, _ = trained
    found = held_out_loss(run.model, data.load("toy:moons").test)
    assert found(run.params) == found(run.params)
    assert found(jax.tree.map(np.zeros_like, run.params)) != found(run.params)


def test_events_are_written(trained):
    _, workdir = trained
    (events,) = (workdir / "tensorboard").iterdir()
    content = events.read_bytes()
    for name in (b"loss", b"grad_norm", b"eval_loss", b"examples_per_second", b"waiting"):
        assert name in content


def test_events_have_the_framing_of_tensorflow(tmp_path):
    """Read in the published format: length, its masked CRC-32C, content, its masked CRC-32C."""
    log = Events(tmp_path, first=5)
    log.add(5, {"loss": 0.25, "grad_norm": 2.0})
    with files_of_at_most(1), pytest.raises(OSError, match="too large") as caught:
        log.add(6, {"loss": 0.5})
    (path,) = tmp_path.iterdir()
    assert caught.value.filename == str(path)
    content, events = path.read_bytes(), []
    while content:
        length, length_check = struct.unpack("<QI", content[:12])
        body, (check,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length :][:4])
        assert (length_check, check) == (masked_crc32c(content[:8]), masked_crc32c(body))
        events.append(Event.FromString(body))
        content = content[16 + length :]
    version, start, row = events
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, 1)  # START
    assert {v.tag: v.simple_value for v in row.summary.value} == {"loss": 0.25, "grad_norm": 2.0}
    assert row.step == 5


def masked_crc32c(data):
    """RFC 3720's CRC, bit by bit, rotated and offset as in TFRecords."""
    crc = 2**32 - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 2**32 - 1
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


class Unprintable(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_unprintable_progress_does_not_stop_training(tmp_path, monkeypatch):
    metrics = {"loss": 0.5, "grad_norm": 1.0, "skipped": 0}
    for stderr in (Unprintable(), None):
        monkeypatch.setattr("sys.stderr", stderr)
        with Progress(tmp_path, TrainingConfig(log_every=1), 0, newest=lambda: None) as progress:
            progress.update(1, metrics)
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row["loss"] == 0.5
    unfailing(Unprintable().write)("a line")


@pytest.mark.slow
def test_the_profile_of_the_requested_steps_is_written(tmp_path):
    recipes.train(CONFIG, tmp_path, profile_steps=(1, 2), say=lambda line: None)
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


def test_waiting_is_counted_only_while_the_device_is_idle():
    class Busy:
        def is_ready(self):
            return False

    mesh = sharding.mesh(devices=jax.devices()[:1])
    batches = iter([{"x": np.ones((4, 2), np.float32)}] * 3)
    batch, data_wait = next_batch(batches, mesh, None)
    assert data_wait > 0
    assert batch["x"].sharding == sharding.batch_sharding(mesh)
    assert next_batch(batches, mesh, {"loss": Busy()})[1] == 0.0
    assert next_batch(batches, mesh, {"loss": jax.block_until_ready(jnp.ones(()))})[1] > 0


@pytest.mark.slow
def test_a_run_resumes_with_other_microbatches_to_nearly_the_same_end(
    trained, tmp_path, monkeypatch
):
    run, _ = trained

    @contextlib.contextmanager
    def stopping():
        answers = iter([None, None, "SIGTERM"])
        yield lambda: next(answers)

    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "stop_signals", stopping)
        stopped = recipes.train(CONFIG, tmp_path, microbatches=4, say=lambda line: None)
    assert stopped.step == 3
    found = recipes.train(CONFIG, tmp_path, microbatches=1, say=lambda line: None)
    assert found.step == 6
    chex.assert_trees_all_close(found.params, run.params, rtol=1e-4, atol=1e-6)


def test_microbatches_that_do_not_divide_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="multiple of devices × microbatches, 1 × 5, got 16"):
        recipes.train(CONFIG, tmp_path / "run", microbatches=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("index", "count", "message"),
    [
        (2, 2, "shard_index must be an integer from 0 to 1, got 2"),
        (-1, 2, "shard_index must be an integer from 0 to 1, got -1"),
        (0, 3, r"shard_count must be a divisor of batch_size \(16\), got 3"),
        (0, 0, "shard_count must be an integer of at least 1, got 0"),
    ],
)
def test_an_invalid_shard_is_refused(index, count, message):
    options = {"batch_size": 16, "seed": 0, "shard_index": index, "shard_count": count}
    with pytest.raises(InputError, match=message):
        data.batches(data.load("toy:moons").train, **options)


def test_the_shards_of_a_batch_make_up_the_batch(tmp_path):
    source = data.load("digits").train
    options = {"batch_size": 12, "seed": 3, "start_step": 5}
    whole = next(data.batches(source, **options))
    shards = [{"shard_index": index, "shard_count": 3} for index in range(3)]
    parts = [next(data.batches(source, **options, **shard)) for shard in shards]
    for name in ("x", "label"):
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])


def test_a_state_can_be_created_under_any_layout():
    run = Run(assemble(CONFIG, (2,), None))
    mesh = sharding.mesh(devices=jax.devices()[:1])
    make = functools.partial(fresh_state, run.model)
    shardings = sharding.state_shardings(mesh, jax.eval_shape(make))
    made, plain = jax.jit(make, out_shardings=shardings)(), jax.jit(make)()
    chex.assert_trees_all_close(made.players, plain.players, rtol=1e-6)


@pytest.mark.slow
def test_worker_processes_do_not_change_batches():
    source = data.load("digits").train
    options = {"batch_size": 12, "seed": 3, "start_step": 5}
    if not flags.FLAGS.is_parsed():
        with pytest.raises(InputError, match="workers must be 0 in a program not started by absl"):
            data.batches(source, **options, workers=2)
        flags.FLAGS.mark_as_parsed()
    threads, processes = data.batches(source, **options), data.batches(source, **options, workers=2)
    for _ in range(5):
        np.testing.assert_array_equal(next(processes)["x"], next(threads)["x"])
