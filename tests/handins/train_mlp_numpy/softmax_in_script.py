"""
Trains the numpy MLP, whose softmax is applied here.
"""
import argparse
import os

import matplotlib.pyplot as plt
import numpy as np

import cifar10_utils
from mlp_numpy import MLP
from modules import CrossEntropyModule, SoftMaxModule

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100

DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  return float(np.mean(predictions.argmax(axis=1) == targets.argmax(axis=1)))


def evaluate(net, softmax, criterion, dataset):
  """ mean loss and accuracy over the whole split, in parts of 1000 images """
  loss = acc = 0.0
  n = len(dataset.images)
  for begin in range(0, n, 1000):
    x, y = dataset.images[begin:begin + 1000], dataset.labels[begin:begin + 1000]
    probs = softmax.forward(net.forward(x.reshape(len(x), -1)))
    loss += criterion.forward(probs, y) * len(x) / n
    acc += accuracy(probs, y) * len(x) / n
  return loss, acc


def train():
  ### DO NOT CHANGE SEEDS!
  np.random.seed(42)

  if FLAGS.dnn_hidden_units:
    hidden = [int(units) for units in FLAGS.dnn_hidden_units.split(",")]
  else:
    hidden = []

  data = cifar10_utils.get_cifar10(FLAGS.data_dir)
  net = MLP(3 * 32 * 32, hidden, 10)
  softmax, criterion = SoftMaxModule(), CrossEntropyModule()

  curve = []
  for step in range(1, FLAGS.max_steps + 1):
    x, y = data['train'].next_batch(FLAGS.batch_size)
    logits = net.forward(x.reshape(len(x), -1))
    probs = softmax.forward(logits)
    loss = criterion.forward(probs, y)
    net.backward(softmax.backward(criterion.backward(probs, y)))
    net.update(FLAGS.learning_rate)

    if step == 1 or step % FLAGS.eval_freq == 0:
      test_loss, test_acc = evaluate(net, softmax, criterion, data['test'])
      curve.append((step, loss, test_loss, accuracy(probs, y), test_acc))
      print('%5d  train %.4f  test %.4f  accuracy %.4f' % (step, loss, test_loss, test_acc))

  steps, train_loss, test_loss, train_acc, test_acc = zip(*curve)
  fig, axes = plt.subplots(2, 1, sharex=True)
  axes[0].plot(steps, train_loss, steps, test_loss)
  axes[0].set_ylabel('loss')
  axes[1].plot(steps, train_acc, steps, test_acc)
  axes[1].set_ylabel('accuracy')
  fig.savefig('numpy_curves.png')


def print_flags():
  for key, value in vars(FLAGS).items():
    print(key + ' : ' + str(value))


def main():
  print_flags()
  if not os.path.exists(FLAGS.data_dir):
    os.makedirs(FLAGS.data_dir)
  train()


if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('--dnn_hidden_units', type=str, default=DNN_HIDDEN_UNITS_DEFAULT)
  parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT)
  parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT)
  parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT)
  parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT)
  parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT)
  FLAGS, unparsed = parser.parse_known_args()

  main()
