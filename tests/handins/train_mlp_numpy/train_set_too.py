"""
Trains the MLP and evaluates it on the test set AND the whole training set.
"""
import argparse
import os

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

import cifar10_utils
from mlp_numpy import MLP
from modules import *

# Default constants
DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'
OUTPUT_DIR = 'output/numpy'

FLAGS = None


def accuracy(predictions, targets):
  rows = np.arange(predictions.shape[0])
  # the entry of the one-hot target at the predicted class is 1 if the prediction is right
  return np.mean(targets[rows, predictions.argmax(axis=1)])


def loss_and_accuracy(mlp, dataset, batch_size=50):
  """Goes through all images of a split, 50 at a time."""
  criterion = CrossEntropyModule()
  n = dataset.num_examples
  loss, acc = 0.0, 0.0
  for i in range(0, n, batch_size):
    x = dataset.images[i:i + batch_size]
    y = dataset.labels[i:i + batch_size]
    probs = mlp.forward(x.reshape(x.shape[0], -1))
    loss += criterion.forward(probs, y) * len(x)
    acc += accuracy(probs, y) * len(x)
  return loss / n, acc / n


def train():
  np.random.seed(42)

  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = [int(n) for n in FLAGS.dnn_hidden_units.split(",")]
  else:
    dnn_hidden_units = []

  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  mlp = MLP(32 * 32 * 3, dnn_hidden_units, 10)
  criterion = CrossEntropyModule()

  curves = []
  for step in range(FLAGS.max_steps):
    if step % FLAGS.eval_freq == 0:
      curves.append([step, *loss_and_accuracy(mlp, cifar10['train']), *loss_and_accuracy(mlp, cifar10['test'])])
      print('%5d  train: %.3f %.3f  test: %.3f %.3f' % tuple(curves[-1]))

    x, y = cifar10['train'].next_batch(FLAGS.batch_size)
    probs = mlp.forward(x.reshape(-1, 3072))
    mlp.backward(criterion.backward(probs, y))
    for layer in mlp.net.values():
      if hasattr(layer, 'params'):
        for key in layer.params.keys():
          layer.params[key] -= FLAGS.learning_rate * layer.grads[key]

  # once more when all is done
  curves.append([FLAGS.max_steps, *loss_and_accuracy(mlp, cifar10['train']),
                 *loss_and_accuracy(mlp, cifar10['test'])])
  print('final test accuracy: %.4f' % curves[-1][-1])

  os.makedirs(OUTPUT_DIR, exist_ok=True)
  curves = np.array(curves)
  np.save(os.path.join(OUTPUT_DIR, 'curves.npy'), curves)
  for name, a, b in [('loss', 1, 3), ('accuracy', 2, 4)]:
    plt.clf()
    plt.plot(curves[:, 0], curves[:, a], label='train ' + name)
    plt.plot(curves[:, 0], curves[:, b], label='test ' + name)
    plt.legend()
    plt.savefig(os.path.join(OUTPUT_DIR, name + '.pdf'))


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
  parser.add_argument('--dnn_hidden_units', type=str, default=DNN_HIDDEN_UNITS_DEFAULT,
                      help='Units of the hidden layers, separated by commas')
  parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT, help='Learning rate')
  parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT, help='Number of steps')
  parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT, help='Batch size')
  parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT, help='Frequency of evaluation')
  parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT, help='Directory of the data')
  FLAGS, unparsed = parser.parse_known_args()

  main()
