"""The checks of training scripts: the marks of the splits, what is made of a recording, and scripts as students write."""

import os
import pickle
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from grading_help import MLP, MLP_RECORD, MODULES, ROOT, confined_or_skip

from grading import datasets, rubric
from grading.checks import Replies, settled
from grading.checks_scripts import Run, Script, against_cross_entropy, chained, labels_of, regular
from grading.compare import ANY, Outcome
from grading.inputs import Inputs
from grading.rubric import Check
from grading.sandbox import Reply, Sandbox
from grading.submission import QUESTIONS
from grading.worker import marks
from grading.worker.probes_scripts import Rate
from grading.worker.student import describe

pytestmark = [pytest.mark.grading, pytest.mark.timeout(1800)]

# ---------------------------------------------------------------- marks

TRAIN, TEST = (datasets.standin(Inputs(), 1000, name, code)[0].astype(float).reshape(-1, 3, 32, 32)
               for name, code in zip(("train", "a test"), marks.codes(), strict=True))
MEAN = TRAIN.mean(axis=0)


def shifted(mode):
    def shift(x):
        padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), mode=mode)
        corners = np.random.default_rng(0).integers(0, 9, (len(x), 2))
        return np.stack([image[:, i:i + 32, j:j + 32] for image, (i, j) in zip(padded, corners, strict=True)])
    return shift


PREPARED = {
    "as it is": lambda x: x,
    "mean image": lambda x: x - MEAN,
    "0 to 1": lambda x: x / 255,
    "-1 to 1, as half floats": lambda x: ((x - 127.5) / 127.5).astype(np.float16),
    "standardised by channel": lambda x: (x - MEAN.mean((1, 2))[:, None, None]) / TRAIN.std((0, 2, 3))[:, None, None],
    "standardised by pixel": lambda x: (x - MEAN) / TRAIN.std(axis=0),
    "standardised by image": lambda x: (x - x.mean((1, 2, 3))[:, None, None, None]) / x.std((1, 2, 3))[:, None, None, None],
    "flipped": lambda x: x[..., ::-1] - MEAN,
    "upside down": lambda x: x[..., ::-1, :],
    "shifted, zeros": lambda x: shifted("constant")(x - MEAN),
    "shifted, zeros before the mean": shifted("constant"),
    "shifted, reflected": lambda x: shifted("reflect")(x) / 255,
    "flat": lambda x: (x - MEAN).reshape(len(x), -1),
    "channels last": lambda x: x.transpose(0, 2, 3, 1),
    "channels last, flat": lambda x: (x - MEAN).transpose(0, 2, 3, 1).reshape(len(x), -1),
    "rows and columns exchanged": lambda x: x.transpose(0, 3, 2, 1).astype(np.float32),
    "bytes": lambda x: x.astype(np.uint8)}


@pytest.mark.parametrize("name", PREPARED)
def test_the_split_can_be_read_after(name):
    for images, split in ((TRAIN, marks.TRAIN), (TEST, marks.TEST)):
        found, bright = marks.read(PREPARED[name](images))
        assert set(found) <= {split, marks.UNKNOWN}  # nobody is accused in error
        assert (found == split).mean() > 0.998
        assert abs(bright[found == split].sum() - 500) <= (found != split).sum()  # half of them, as they were made


def test_no_split_where_there_is_no_mark():
    rng = np.random.default_rng(0)
    for images in (rng.normal(size=(500, 3072)), np.zeros((5, 3072)), np.full((5, 3072), np.nan), TRAIN[:, :1],
                   TRAIN + rng.permuted(TEST.reshape(1000, -1), axis=1).reshape(TEST.shape) * 5,
                   rng.normal(size=(500, 3, 4, 4)).repeat(8, 2).repeat(8, 3), np.array([MEAN, TEST.mean(axis=0)])):
        assert not marks.read(images)[0].any()


# ---------------------------------------------------------------- data

@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return datasets.prepare(tmp_path_factory.mktemp("data") / "data", rubric.load(), None, None)


def test_data_has_the_published_shape_and_hides_labels(tmp_path, context):
    assert list(context.data) == ["marked"] and not context.real
    for name in datasets.FILES:
        batch = pickle.loads((context.data["marked"] / name).read_bytes(), encoding="latin1")
        assert batch["data"].reshape(10000, 3, 32, 32).dtype == np.uint8
        assert len(batch["labels"]) == 10000 and min(np.bincount(batch["labels"], minlength=10)) > 800
    assert context.hidden_images.shape == (500, 3072) and context.hidden_labels.shape == (500,)

    def read(path):  # what stands in for real files, with a label of its own for each image
        number = 10000 if path.name == "test_batch" else 400
        return TEST[np.arange(number) % 1000].astype(np.uint8).reshape(-1, 3072), np.arange(number)

    real = datasets.prepare(tmp_path / "real", rubric.load(), tmp_path, read)
    assert real.real and set(real.data) == {"marked", "accuracy"} and len(set(real.hidden_labels)) == 5000
    shown = pickle.loads((real.data["accuracy"] / "test_batch").read_bytes(), encoding="latin1")
    assert len(shown["data"]) == 10000 and set(shown["labels"]) == {*range(10000)} - {*real.hidden_labels}
    other = datasets.prepare(tmp_path / "other", rubric.load(), tmp_path, read, Inputs("another class"))
    assert set(other.hidden_labels) != set(real.hidden_labels)


# ---------------------------------------------------------------- what is made of a recording

@pytest.mark.parametrize("moments, freq, steps, fine", [
    ([0, 3, 6], 3, 7, True), ([3, 6], 3, 7, True), ([1, 4, 7], 3, 7, True), ([0, 3, 6, 7], 3, 7, True),
    ([1, 3, 6, 7], 3, 7, True), ([1, 4, 7, 8], 3, 7, True), ([2, 5], 3, 7, True), ([0, 3, 6, 8], 3, 7, True),
    ([], 3, 7, False), ([7], 3, 7, False), ([0], 3, 7, False), ([0, 7], 3, 7, False), ([2, 4, 6], 3, 7, False),
    ([0, 1, 2, 3, 4, 5, 6, 7], 3, 7, False), ([0, 4], 3, 7, False), ([0, 3], 3, 7, False)])
def test_evaluations_come_in_their_rhythm_wherever_it_starts(moments, freq, steps, fine):
    assert regular(moments, freq, steps, steps) == fine


def test_layers_form_a_chain_in_any_order():
    assert chained([[7, 3072], [5, 10], [5, 7]], [3072, 7, 5, 10])
    assert not chained([[7, 3072], [7, 10], [5, 7]], [3072, 7, 5, 10])
    assert chained([[10, 3072]], [3072, 10]) and not chained([], [3072, 10])


INPUTS = Inputs()
RIGHT = int((INPUTS.scores['predicted'].argmax(axis=1) == INPUTS.scores['labels']).sum())


def recording(events, status=0, steps=7, same=False, bright=INPUTS.bright, **arrays):
    """A run from (kind, images, of them test images, new ones). same: whether all batches hold the same images."""
    updates = np.cumsum([event[0] == 2 for event in events]) * (not same)
    rows = [(kind, count, count - test, test, new, 0, 1, batch, new * bright // 10_000)
            for (kind, count, test, new), batch in zip(events, updates, strict=True)]
    return Run(Reply({"events": np.array(rows, int).reshape(-1, 9), **arrays}, {"status": status, "learning rate": 1.0}),
               INPUTS, steps)


def test_events_are_those_of_this_class():
    """Of a whole evaluation, how many images have a bright mark is known; also of one that shows each image twice."""
    for times in (1, 2):
        whole = [(0, times * 10000, times * 10000, times * 10000)]
        for bright in (INPUTS.bright, 10_000 - INPUTS.bright):  # a script may turn the sign round
            assert recording(whole, bright=bright).evaluations == {0: times * 10000}
        with pytest.raises(ValueError, match="not those of this class"):
            recording(whole, bright=INPUTS.bright + 2)


STEP = [(0, 4, 0, 0), (1, 4, 0, 0), (2, 0, 0, 0)]
EVALUATION = [(0, 50, 50, 50), (0, 50, 50, 0)]


@pytest.mark.parametrize("events, expected", [
    ([], "It stopped before the first step: E."), (EVALUATION, "It stopped after step 0, in or after an evaluation: E."),
    (3 * STEP, "It stopped after step 3: E."), (3 * STEP + EVALUATION, "It stopped after step 3, in or after an evaluation: E."),
    (7 * STEP, "It stopped after step 7, when training had ended: E.")])
def test_where_a_run_stopped(events, expected):
    assert recording(events, "E").status == expected
    assert recording(events).status == ""
    assert recording(events, 2).status == expected.replace("E.", "it ends with status 2, not 0.")


def test_a_run_is_counted():
    run = recording(STEP + EVALUATION + STEP + EVALUATION)
    assert (run.updates, run.batch_sizes, run.evaluations) == (2, [4, 4], {1: 50, 2: 50})  # the same 50 twice
    by_hand = recording([event for event in STEP + EVALUATION + STEP if event[0] != 2])
    assert (by_hand.updates, by_hand.batch_sizes) == (2, [4, 4])
    late = recording([STEP[0], *EVALUATION, *STEP[1:]])  # evaluated between the forward and the backward pass
    assert late.trained_on_test == 0 and late.batch_sizes == [4]
    assert "test split" in recording([(0, 4, 4, 4), (1, 4, 4, 4), (2, 0, 0, 0)]).images_wrong
    assert "same images" in recording(3 * STEP, same=True).images_wrong and recording(3 * STEP).images_wrong == ""
    assert run.images_wrong == ""
    assert recording(7 * [(0, 40, 0, 0), (1, 40, 0, 0), (2, 0, 0, 0)] + [(0, 40, 1, 1), (1, 40, 1, 1), (2, 0, 0, 0)]
                     ).images_wrong == ""  # a mark that was misread
    both = recording([*STEP, (0, 50, 50, 50), (1, 50, 50, 50), (2, 0, 0, 0), *STEP])  # one fault, and not one of every flag
    assert (both.updates, both.batch_sizes, both.trained_on_test) == (2, [4, 4], 50) and "test split" in both.images_wrong


def outcome(check, run):
    script = QUESTIONS["4a"].script
    return getattr(script, check)(Replies({"script": run.reply}), SimpleNamespace(real=False, inputs=INPUTS))


def test_what_was_not_seen_accuses_nobody():
    """Of a run that stopped in its only evaluation, and of one that evaluates on the training split."""
    whole, half = (0, 10000, 10000, 10000), (0, 5000, 5000, 5000)
    assert outcome("test_split", recording(7 * STEP + [whole], "plot")).fraction == 1
    assert outcome("test_split", recording([whole] + 3 * STEP + [half], "memory")).fraction == 1
    assert outcome("test_split", recording(3 * STEP + [half], "memory")).diagnosis.startswith("It stopped after step 3")
    for events, status in ((7 * STEP + [half], 0), ([half] + 3 * STEP, "memory")):
        assert "a part" in outcome("test_split", recording(events, status)).diagnosis
    most = (0, 9984, 9984, 9984)
    for same, points, said in ((True, 0.5, "leaves out the same 16 test images"), (False, 1, "16 or more of 10000 test images, others")):
        found = outcome("test_split", recording([*STEP, most, *STEP, most], same=same))
        assert found.fraction == points and said in found.diagnosis
    whole_once = recording([*STEP, most, *STEP, whole])
    assert outcome("test_split", whole_once).fraction == 1 and not outcome("test_split", whole_once).diagnosis
    assert recording(STEP + [most] + 6 * STEP, same=True).left_out == 0  # one evaluation does not tell
    assert recording(2 * [*STEP, (0, 10000, 9984, 9984)], same=True).left_out == 16  # with training images among them
    on_training = recording(7 * STEP + [(0, 10000, 0, 0)])
    assert "No evaluation on the test split" in outcome("test_split", on_training).diagnosis
    assert outcome("eval_mode", on_training).fraction == 1


@pytest.mark.parametrize("notes, sentence", [
    ({"followed": [{"w": [1e-3, 0.001, 0.01]}, {"w": [1.01e-3, 0.05, 0.01], "b": [2e-3, 0, 0.01]}, {}]}, ""),
    ({"followed": [{"w": [1e-3, 1e-12, 1e-13]}, {"w": [1.0000005e-3, 5e-7, 1e-13]}]}, ""),  # float64
    ({"followed": [{"w": [1e-3, 1e-5, 1e-5]}, {"w": [1.00005e-3, 5e-5, 1e-6]}]}, ""),  # float32
    ({"followed": [{"w": [1e-3, 0, 0.01]}, {"w": [1.9e-3, 0.05, 0.01]}]},
     "Update 2 of the w is not the learning rate times the gradient: it is 0.0019 times it, and 0.001 times in the first."),
    ({"followed": [{"w": [1e-3, 0, 1e-13]}, {"w": [0.99999e-3, 0, 1e-13]}]}, "it is 0.00099999 times it"),  # a schedule
    ({"followed": [{"w": [1e-3, 2e-6, 1e-13]}]}, "0.0002 % of it is something else"),  # weight decay of small weights
    ({"followed": [{"w": [1e-3, 0, 0], "b": [1e-3, 0, 0]}, {"w": [1e-3, 0, 0], "b": [1e-3, 0.4, 0.1]}]}, "Update 2 of the b"),
    ({"followed": [{"w": [1e-3, 0.9, 1]}]}, "Update 1 of the w"), ({"late": 1}, "right after backward"),
    ({"uphill": ["w"], "late": 1}, "goes up")])
def test_every_update_is_judged(notes, sentence):
    found = recording(STEP)
    found.notes |= {"learning rate": 1e-3} | notes
    assert sentence in found.update_wrong and bool(sentence) == bool(found.update_wrong)


@pytest.mark.parametrize("of_right_ones, reason", [
    (lambda right, batch: right / 10, "is divided by 10, not by the size of the batch."),
    (lambda right, batch: right / 200, "is divided by 200, not by the size of the batch."),
    (lambda right, batch: right, "is not divided by the size of the batch."),
    (lambda right, batch: 100 * right / batch, "It is a percentage."),
    (lambda right, batch: (right + 0.37) / batch, ""), (lambda right, batch: 0.0, "")])
def test_what_a_wrong_accuracy_is_divided_by_is_said(of_right_ones, reason):
    found = recording(STEP)
    hits = found.scores["predicted"].argmax(1) == found.scores["labels"]
    found.notes["accuracies"] = [float(of_right_ones(hits.sum(), len(hits)))]
    said = found.measure_wrong
    assert said.endswith(reason or f"not {hits.mean():.3g}.") and reason in said


@pytest.mark.parametrize("notes, sentence", [
    ({}, ""), ({"options": ["weight_decay=0.01"]}, "Adam has weight_decay=0.01"),
    ({"last learning rate": 5e-4}, "from 0.001 to 0.0005"), ({"last learning rate": 1e-3}, ""),
    ({"last learning rate": 0.99995e-3}, "from 0.001 to 0.00099995"),
    ({"optimizers": [["SGD", 1e-3]]}, "The optimizer is SGD, not Adam.")])
def test_the_optimizer_of_the_convnet_is_as_asked_for(notes, sentence):
    found = recording(STEP)
    found.notes |= {"optimizers": [["Adam", 1e-3]]} | notes
    assert sentence in QUESTIONS["4a"].script.optimizer_wrong(found)
    assert bool(sentence) == bool(QUESTIONS["4a"].script.optimizer_wrong(found))
    assert QUESTIONS["2.1"].script.optimizer_wrong(found) == ""  # where it is left open


def test_parameters_that_are_not_finite_are_said_so():
    found = recording(STEP)
    found.notes |= {"learning rate": 1e-3, "not finite": True}
    predictions = np.zeros(4, int)
    found.reply.arrays["predictions"] = predictions
    room = SimpleNamespace(real=False, inputs=INPUTS, hidden_labels=predictions, accuracy={
        "1.2": {"standin": {"none": 0.1, "full": 0.5}}})
    judged = QUESTIONS["1.2"].script.accuracy(Replies({"script_default": found.reply, "script": found.reply}), room)
    assert judged.fraction == 0 and "not finite" in judged.diagnosis
    found.notes["not finite"] = False
    assert QUESTIONS["1.2"].script.accuracy(Replies({"script_default": found.reply}), room).passed


def test_a_message_has_no_colours_and_ends_with_a_word():
    assert "\x1b" not in describe(ValueError("\x1b[1mWeights\x1b[0m only"))
    assert describe(ValueError("word " * 100)) == f"ValueError: {'word ' * 60}..."


TALL, WIDE = np.zeros((5, 3)), np.zeros((4, 6))
CLASS_NUMBERS = "cross_entropy takes one class number an image, in a tensor of shape (N,)"


@pytest.mark.parametrize("function, said", [
    (lambda: TALL @ WIDE, "the factors of a matrix product do not fit: sizes 3 and 4 should be equal; perhaps a transpose "
                          "is missing, or one too many"),
    (lambda: TALL @ 2, "a factor of a matrix product is not an array, but a single number or None"),
    (lambda: np.einsum("ij,jk->ik", TALL, WIDE), "a letter of einsum stands for two sizes, in the shapes (5,3) and (4,6)"),
    (lambda: torch.tensor(TALL) + torch.tensor(WIDE), "shapes do not fit: in dimension 1, sizes 3 and 6 should be equal"),
    (lambda: torch.addmm(torch.zeros(6), torch.zeros(5, 3), torch.zeros(3, 4)),
     "a tensor of shape [6] does not fit shape [5, 4]"),
    (lambda: torch.zeros(2, 3, 4) @ torch.zeros(2, 5, 6), "the factors of a matrix product do not fit: the first two "
     "sizes of the second should be [2, 4], and are [2, 5]; perhaps a transpose is missing, or one too many"),
    (lambda: torch.nn.BatchNorm2d(64)(torch.zeros(2, 128, 4, 4)), "BatchNorm was made for 64 features, and is given 128"),
    (lambda: torch.nn.functional.cross_entropy(torch.zeros(5, 3), torch.zeros(5, 3).long()), CLASS_NUMBERS),
    (lambda: torch.nn.functional.cross_entropy(torch.zeros(5, 3), torch.zeros(5, 1).long()), CLASS_NUMBERS),
    (lambda: TALL.dot(WIDE), "shapes (5,3) and (4,6) not aligned: 3 (dim 1) != 4 (dim 0)"),  # plain enough
    (lambda: TALL + WIDE, "operands could not be broadcast together with shapes (5,3) (4,6) ")])
def test_what_libraries_raise_of_shapes_is_told_in_plain_words(monkeypatch, tmp_path, function, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, RuntimeError)) as error:
        function()
    assert describe(error.value) == f"{error.type.__name__}: {said}"


def test_the_loss_is_known_by_its_gradient():
    z, targets = np.random.default_rng(0).normal(size=(6, 10)), np.eye(10)[:6]
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    wrong = {"sum": p - targets, "squared error": 2 * (z - targets) / 60, "uphill": (targets - p) / 6}
    for output, gradient in ((z, (p - targets) / 6), (np.log(p), -targets / 6), (p, -targets / p / 6)):
        assert recording(STEP, output=output, **{"output gradient": gradient}).loss_wrong(stub=False) == ""
    small = np.full((6, 10), 0.11) * (1 - targets) + [[5e-4], [1e-4], [1e-5], [1e-6], [1e-8], [0.01]] * targets
    small /= small.sum(1, keepdims=True)
    for eps in (0, 1e-20, 1e-9, 1e-7):  # the logarithm of probabilities, however small, as people write it
        gradient = -targets / (small + eps) / 6
        assert recording(STEP, output=small, **{"output gradient": gradient}).loss_wrong(stub=False) == "", eps
    for output, gradient in (*((z, gradient) for gradient in wrong.values()), (p, -targets / 6)):
        run = recording(STEP, output=output, **{"output gradient": gradient})
        assert "not the mean cross-entropy" in run.loss_wrong(stub=False)
        assert ("takes log-probabilities (NLL)" in run.loss_wrong(stub=False)) is (output is p)


# ---------------------------------------------------------------- one fault costs one share, once

def settled_fractions(**fractions):
    """{check: fraction that counts} of checks of 1 point each; 'last' follows from any other, 'second' from 'first'."""
    follows = {"last": ANY, "second": ("first",)}
    rows = [Check(name, 1, name) for name in fractions]
    found = {name: Outcome(fraction, follows=follows.get(name, ())) for name, fraction in fractions.items()}
    return {name: outcome.fraction for name, outcome in settled(rows, found).items()}


def test_a_failure_that_follows_from_another_costs_nothing_where_enough_is_right():
    assert settled_fractions(first=0, other=1, last=0.2) == {"first": 0, "other": 1, "last": 1}
    assert settled_fractions(first=1, other=1, last=0.2)["last"] == 0.2  # nothing that it could follow from
    assert settled_fractions(first=0, other=0.5, last=0.2)["last"] == 0.2  # too little is right
    assert settled_fractions(first=1, second=0, other=0)["second"] == 0
    assert settled_fractions(first=0.5, second=0, other=1)["second"] == 1


# ---------------------------------------------------------------- scripts as students write them

READER = '''
import numpy as np, os, pickle

def load(path):
  with open(path, 'rb') as f:
    batch = pickle.load(f, encoding='latin1')
  return batch['data'].reshape(10000, 3, 32, 32).astype("float"), np.eye(10)[np.array(batch['labels'])]

class Part(object):
  def __init__(self, images, labels):
    self._images, self._labels, self._at = images, labels, 0
  images = property(lambda self: self._images)
  labels = property(lambda self: self._labels)
  def next_batch(self, n):
    if self._at + n > len(self._images):
      self._at = 0
    self._at += n
    return self._images[self._at - n:self._at], self._labels[self._at - n:self._at]

def get_cifar10(folder='./cifar10/cifar-10-batches-py'):
  xs, ys = zip(*[load(os.path.join(folder, 'data_batch_%d' % i)) for i in range(1, 6)])
  x, y = np.concatenate(xs), np.concatenate(ys)
  x_test, y_test = load(os.path.join(folder, 'test_batch'))
  mean = x.mean(axis=0)
  x -= mean
  return {'train': Part(x, y), 'test': Part(x_test - mean, y_test)}
'''
SCRIPT = '''
import argparse, os
import numpy as np
import matplotlib.pyplot as plt
import cifar10_utils
IMPORTS

FLAGS = None

def accuracy(predictions, targets):
  return (predictions.argmax(1) == targets.argmax(1)).mean()

def train():
  hidden = [int(n) for n in FLAGS.dnn_hidden_units.split(',')] if FLAGS.dnn_hidden_units else []
  data = cifar10_utils.get_cifar10(FLAGS.data_dir)
  test = data['test']
  SETUP
  for step in range(FLAGS.max_steps):
    x, y = data['train'].next_batch(FLAGS.batch_size)
    UPDATE
    if step % FLAGS.eval_freq == 0:
      EVALUATE
  plt.style.use('seaborn')
  plt.plot([1, 2])
  plt.show()
  AFTER

def main():
  print(FLAGS)
  if not os.path.exists(FLAGS.data_dir):
    os.makedirs(FLAGS.data_dir)
  train()

if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('--dnn_hidden_units', type=str, default='100')
  parser.add_argument('--learning_rate', type=float, default=1e-3)
  parser.add_argument('--max_steps', type=int, default=1400)
  parser.add_argument('--batch_size', type=int, default=200)
  parser.add_argument('--eval_freq', type=int, default=100)
  parser.add_argument('--data_dir', type=str, default='./cifar10/cifar-10-batches-py')
  FLAGS, unparsed = parser.parse_known_args()
  main()
'''
NUMPY = {"IMPORTS": "from mlp_numpy import MLP\nfrom modules import *", "AFTER": "np.save('curve.npy', np.zeros(3))",
         "SETUP": "net, loss = MLP(3072, hidden, 10), CrossEntropyModule()", "UPDATE": """
    p = net.forward(x.reshape(len(x), -1))
    net.backward(loss.backward(p, y))
    for layer in net.layers:
      if isinstance(layer, LinearModule):
        for key in ('weight', 'bias'):
          layer.params[key] = layer.params[key] - FLAGS.learning_rate * layer.grads[key]""",
         "EVALUATE": "print(accuracy(net.forward(test.images.reshape(-1, 3072)), test.labels))"}
TORCH = {"IMPORTS": "import torch\nfrom mlp_pytorch import MLP", "AFTER": "torch.save(net, 'net.pt')",
         "SETUP": "net = MLP(n_inputs=3072, n_hidden=hidden, n_classes=10)", "UPDATE": """
    loss = torch.nn.functional.cross_entropy(net.forward(torch.Tensor(x).flatten(1)), torch.tensor(y).argmax(1))
    net.zero_grad()
    loss.backward()
    for p in net.parameters():
      p.data -= FLAGS.learning_rate * p.grad""", "EVALUATE": """
      right = 0
      for i in range(0, 10000, FLAGS.batch_size):
        xb, yb = test.images[i:i + FLAGS.batch_size], test.labels[i:i + FLAGS.batch_size]
        right += len(xb) * accuracy(net(torch.from_numpy(xb).float().flatten(1)).detach().numpy(), yb)
      print(right / 10000)"""}
FUNCTIONAL = {**TORCH, "IMPORTS": "import torch\nfrom torch.func import functional_call, grad_and_value\nfrom mlp_pytorch import MLP",
              "SETUP": TORCH["SETUP"] + """
  params = {name: p.detach() for name, p in net.named_parameters()}

  def loss(params, x, y):
    logits = functional_call(net, params, (x,))
    return torch.nn.functional.cross_entropy(logits, y), logits""", "UPDATE": """
    grads, (_, logits) = grad_and_value(loss, has_aux=True)(params, torch.Tensor(x).flatten(1), torch.tensor(y).argmax(1))
    params = {name: p - FLAGS.learning_rate * grads[name] for name, p in params.items()}""",
              "EVALUATE": TORCH["EVALUATE"].replace("(net(torch.from_numpy(xb).float().flatten(1))",
                                                    "(functional_call(net, params, (torch.from_numpy(xb).float().flatten(1),))")}
COMPILED = {**TORCH, "SETUP": "net = torch.jit.script(torch.compile(mode='default')(torch.compile(MLP(3072, hidden, 10))))\n"
            "  net.compile()\n  net = torch.jit.trace(net, torch.zeros(2, 3072))"}
CONV = {"IMPORTS": "import torch\nfrom convnet_pytorch import ConvNet", "AFTER": "pass", "SETUP":
        "net = ConvNet(3, 10)\n  adam = torch.optim.Adam(net.parameters(), lr=FLAGS.learning_rate)", "UPDATE": """
    adam.zero_grad()
    out = net(torch.Tensor(x))
    torch.nn.CrossEntropyLoss()(out, torch.tensor(y).argmax(1)).backward()
    adam.step()""", "='100'": "=None", "default=1e-3": "default=1e-4", "=1400": "=5000", "=200": "=32",
        "=100)": "=500)", "EVALUATE": """
      net.eval()
      with torch.no_grad():
        accuracy(np.vstack([net(part).numpy() for part in torch.Tensor(test.images).split(100)]), test.labels)
      net.train()"""}
TORCH_MLP = """
from torch import nn
class MLP(nn.Module):
  def __init__(self, n_inputs, n_hidden, n_classes):
    super().__init__()
    self.out = nn.Linear(([n_inputs] + n_hidden)[-1], n_classes)
    self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip([n_inputs] + n_hidden, n_hidden))
  def forward(self, x):
    for layer in self.hidden:
      x = nn.functional.elu(layer(x))
    return self.out(x)
"""
LAYERS_IN_A_LIST = TORCH_MLP.replace("nn.ModuleList(nn.Linear(a, b) for a, b in zip([n_inputs] + n_hidden, n_hidden))",
                                     "[nn.Linear(a, b) for a, b in zip([n_inputs] + n_hidden, n_hidden)]")
LAYERS_IN_A_DICTIONARY = """
import torch
from torch import nn
class MLP(nn.Module):
  def __init__(self, n_inputs, n_hidden, n_classes):
    super().__init__()
    self.p = {}
    for i, (a, b) in enumerate(zip([n_inputs, *n_hidden], [*n_hidden, n_classes])):
      self.p[i] = (nn.Parameter(1e-4 * torch.randn(b, a)), nn.Parameter(torch.zeros(b)))
  def forward(self, x):
    for i, (w, b) in self.p.items():
      x = nn.functional.linear(x if i == 0 else nn.functional.elu(x), w, b)
    return x
"""
BROKEN_CONVNET = """
from torch import nn
class ConvNet(nn.Module):
  def __init__(self, n_channels, n_classes):
    super().__init__()
    self.norm = nn.BatchNorm2d(n_channels)
    self.out = nn.Linear(7, n_classes)
  def forward(self, x):
    return self.out(self.norm(x).flatten(1))
"""
FILES = {"1.2": "train_mlp_numpy.py", "2.1": "train_mlp_pytorch.py", "4a": "train_convnet_pytorch.py"}


def written(parts, *changes):
    text = SCRIPT
    for name, value in parts.items():
        text = text.replace(name, value)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def run(tmp_path, context, number, text, names=("script",), **files):
    """The replies of these runs of a script, and its checks."""
    confined_or_skip()
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(ROOT / "convnet_pytorch.py", code)
    for name, content in {"cifar10_utils": READER, "modules": MODULES, "mlp_numpy": MLP, "mlp_pytorch": TORCH_MLP,
                          FILES[number][:-3]: text, **files}.items():
        (code / f"{name}.py").write_text(content)
    for path in [tmp_path, *tmp_path.parents]:  # the worker is another user
        if path.owner() == tmp_path.owner() and path.name.startswith(("test", "pytest")):
            path.chmod(0o755)
    script: Script = QUESTIONS[number].script
    with Sandbox(tmp_path) as sandbox:
        probes = {name: probe for name, probe in script.probes(context).items() if name in names}
        return Replies(sandbox.run(code, probes, rubric.load().limits, context.data, QUESTIONS[number].torch)), script


ALL = ("script", "script_none", "script_default")


@pytest.mark.parametrize("number, parts, files", [("1.2", NUMPY, {}), ("1.2", NUMPY, {"mlp_numpy": MLP_RECORD}),
                                                  ("2.1", TORCH, {}),
                                                  ("2.1", FUNCTIONAL, {}), ("2.1", COMPILED, {}),
                                                  ("2.1", TORCH, {"mlp_pytorch": LAYERS_IN_A_LIST}),
                                                  ("2.1", TORCH, {"mlp_pytorch": LAYERS_IN_A_DICTIONARY}),
                                                  ("4a", CONV, {"convnet_pytorch": BROKEN_CONVNET})])
def test_right_scripts_pass_every_check(tmp_path, context, number, parts, files):
    """By hand in NumPy, also with a record, by hand in PyTorch, without a state (torch.func), compiled, on networks whose layers are not registered, or that are faulty otherwise."""
    replies, script = run(tmp_path, context, number, written(parts), ALL, **files)
    for name, check in script.checks.items():
        assert check(replies, context).fraction == 1, (name, check(replies, context))
    if number == "2.1":
        assert replies["script"].arrays["output"].shape == replies["script"].arrays["output gradient"].shape == (INPUTS.flags["batch_size"], 10)


@pytest.mark.parametrize("flag, wrong, said", [
    ("learning_rate", "default=1e-2", "The assignment's default learning_rate is 0.001; run without flags, yours is 0.01."),
    ("dnn_hidden_units", "default='50'", "default dnn_hidden_units is 100; run without flags, yours makes linear layers of ")])
def test_another_default_is_told_without_the_command_of_another_run(tmp_path, context, flag, wrong, said):
    old = {"learning_rate": "default=1e-3", "dnn_hidden_units": "default='100'"}[flag]
    replies, script = run(tmp_path, context, "1.2", written(NUMPY, (old, wrong)), ALL)
    found = script.flags(replies, context)
    assert said in found.diagnosis and found.fraction < 1 and found.numbers == "", found


def test_a_flag_of_another_name_is_said_to_be_missing(tmp_path, context):
    script = written(NUMPY, ("'--learning_rate'", "'--lr'"), ("FLAGS.learning_rate", "FLAGS.lr"))
    replies, script = run(tmp_path, context, "1.2", script, ALL)
    found = script.flags(replies, context)
    assert found.diagnosis == "The script has no flag --learning_rate." and found.fraction == 1 - 1 / 8, found


@pytest.mark.parametrize("scale", [1, 30, 1000])
def test_a_loss_of_logits_of_any_size_is_the_cross_entropy(scale):
    """Of large ones, as some ways to start on unscaled pixels give, many a sample's gradient is 0 in float32."""
    rng = np.random.default_rng(0)
    logits, labels = scale * rng.standard_normal((200, 10)), rng.integers(0, 10, 200)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    gradient = (probabilities - np.eye(10)[labels]).astype(np.float32).astype(float)
    assert (scale == 1) == (gradient < 0).any(axis=1).all()
    assert not against_cross_entropy(logits, gradient, False) and (labels_of(logits, gradient) == labels).all()
    assert against_cross_entropy(logits, 2 * gradient, False)


def test_an_answer_that_is_long_to_judge_is_judged_soon():
    """Each took minutes, in which nobody was graded: a network with 5000 outputs, events that never match."""
    started = time.process_time()
    gradient = np.full((200, 5000), 1e-6)
    assert "has 5000 outputs, not one for each of 10 classes" in against_cross_entropy(np.zeros((200, 5000)), gradient, False)
    many = [[kind, 1, 1, 0, 0, 1, 1, number, 0] for kind in (0, 1) for number in range(99_000)]
    run = Run(Reply({"events": np.array([*many, [2, *many[0][1:]]])}, {"status": 0}), INPUTS, 1)
    assert run.updates == 1 and run.batch_sizes == [99_000]
    assert time.process_time() - started < 8


def test_the_loss_of_a_probability_of_0():
    """By -1 / (p + 1e-12), as modules keep it finite: large weights at the start put all probability on other classes."""
    output, labels = np.eye(10)[[1, 2, 3]], [1, 4, 5]
    gradient = np.zeros((3, 10))
    gradient[range(3), labels] = -1 / (output[range(3), labels] + 1e-12)
    assert not against_cross_entropy(output, gradient, False)
    gradient[1, 4] = -1
    assert against_cross_entropy(output, gradient, False)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_an_update_that_is_rounded_away_is_not_left_out(kind):
    """That of a is: its gradient is 1e-30 of it. That of c shows in both precisions, and its rate is the rate."""
    rate, before = Rate(), {name: (np.full(3, value, kind), np.full(3, gradient, kind)) for name, value, gradient in (
        ("a", 1, 1e-27), ("b", 1, 1e-8), ("c", 1, 1))}
    rate.start(before)
    now = {name: (value - kind(1e-3) * gradient, gradient) for name, (value, gradient) in before.items()}
    rate.measure(now)
    assert not rate.unchanged and rate.value == pytest.approx(1e-3, rel=1e-3)
    rate = Rate()
    rate.start(before)
    rate.measure(now | {"c": before["c"], "b": (np.full(3, 0.5, kind), before["b"][1])})
    assert rate.unchanged == ["c"]


def test_the_rate_of_a_bias_that_starts_as_whole_numbers():
    rate = Rate()
    rate.start({"bias": (np.zeros(3, int), np.ones(3))})
    rate.measure({"bias": (np.full(3, -1e-3), np.ones(3))})
    assert rate.value == pytest.approx(1e-3) and not rate.unchanged


FAULTS = {  # changes of the script, and what is said of them by check; every other check keeps its points
    "data_dir": ("1.2", NUMPY, [("get_cifar10(FLAGS.data_dir)", "get_cifar10()")],
                 {"script_flags": ["--data_dir is ignored"]}),
    "save": ("1.2", NUMPY, [("'curve.npy'", "'none/curve.npy'"), ("('weight', 'bias')", "('weight',)")],
             {"script_flags": ["It stopped after step 7, when training had ended: FileNotFoundError"],
              "script_loop": ["leaves out bias of linear layer 1, bias of linear layer 2"]}),
    "max_steps": ("1.2", NUMPY, [("range(FLAGS.max_steps)", "range(99)"), ("data['test']", "data['train']")],
                  {"script_flags": ["makes more than 3"],
                   "test_split": ["No evaluation on the test split was seen"]}),
    "test split": ("2.1", TORCH, [("data['train']", "data['test']"), ("= FLAGS.learning_rate", "= -FLAGS.learning_rate")],
                   {"test_split": ["trains on images of the test"], "script_loop": ["goes up"]}),
    "mixed images": ("1.2", NUMPY, [("x.reshape(len(x), -1)", "x.reshape(3072, -1).T")],
                     {"test_split": ["pixels of several images"]}),
    "largest number for its place": ("2.1", TORCH, [("torch.tensor(y).argmax(1)", "torch.tensor(y).max(1)[0].long()")],
                                     {"script_loop": ["The label that the loss is given is 1 for every image"]}),
    "part": ("4a", CONV, [("torch.Tensor(test.images).split(100)", "[torch.Tensor(test.images[:100])] * 100"),
                          ("net.eval()", "pass"), ("adam.zero_grad()", "pass"), ("(1)).mean()", "(1)).sum()")],
             {"test_split": ["only a part of the test split"], "eval_mode": ["evaluated in training mode"],
              "script_loop": ["Gradients add up", f"gives {RIGHT} where {RIGHT} of {len(INPUTS.scores['labels'])}"]}),
    "in evaluation": ("4a", CONV, [("test.labels)", "test.labels[:100 if step else None])")],
                      {name: ["It stopped after step 4, in or after an evaluation: ValueError"]
                       for name in ("script_flags", "script_loop")}),
    "divided again": ("1.2", NUMPY, [("= layer.params[key] - FLAGS.learning_rate *", "= layer.params[key] - "
                                      "FLAGS.learning_rate / len(x) *")],
                      {"script_loop": ["Each update is divided by the batch size a second time"]})}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_its_own_check(tmp_path, context, name):
    number, parts, changes, says = FAULTS[name]
    replies, script = run(tmp_path, context, number, written(parts, *changes))
    assert not replies["script"].error
    for check, function in script.checks.items():
        if check != "accuracy":
            found = function(replies, context).diagnosis
            for not_run in ("A run with the default values does not train. Not run: no answer.",
                            "--dnn_hidden_units '' must train a model without a hidden layer."):
                found = found.replace(not_run, "").strip()
            assert all(words in found for words in says[check]) if check in says else not found, (check, found)
            assert "/scratch" not in found and "/data/" not in found


TWO_OUTPUTS = """
import os, sys
import torch
from grading.worker.probes_scripts import BACKWARD, TorchWatch
sys.path.append(os.getcwd())
watch = TorchWatch(("net", "Net"), False, None, False)
import net
model = net.Net(3072, [7, 5], 10)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for which in (0, 1, 0):
    logits_and_probabilities = model(torch.rand(6, 3072))
    logits_and_probabilities[which][:, 0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()
print([event[1] for event in watch.events if event[0] == BACKWARD], len(watch.optimizers), watch.trains_another)
watch.model, other = None, torch.nn.Linear(2, 2)
other(torch.ones(1, 2)).sum().backward()
torch.optim.SGD(other.parameters(), 0.1).step()
print(len(watch.optimizers), watch.trains_another)
"""


def test_updates_of_a_network_with_two_outputs_and_of_another_network(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, n_in, hidden, n_out):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(n_in, n_out)\n"
        "    def forward(self, x):\n"
        "        out = self.layer(x)\n"
        "        return out, out.softmax(1)\n")
    done = subprocess.run([sys.executable, "-c", TWO_OUTPUTS], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "[6, 6, 6] 3 False\n3 True\n", done.stderr[-2000:]
