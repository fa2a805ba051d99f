"""
Trains and evaluates the numpy MLP.
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import argparse
import numpy as np
import os
import matplotlib.pyplot as plt
from mlp_numpy import MLP
from modules import CrossEntropyModule, LinearModule
import cifar10_utils

# Default constants
DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100

# Directory in which cifar data is saved
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  """
  Accuracy of the predictions, both arguments of size [batch_size, n_classes].
  """
  correct = np.argmax(predictions, axis=1) == np.argmax(targets, axis=1)
  return correct.mean()


def train():
  """
  Trains the MLP, tests it on the whole test set every eval_freq steps.
  """
  np.random.seed(42)

  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
    dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
  else:
    dnn_hidden_units = []

  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  x_test, y_test = cifar10['test'].images, cifar10['test'].labels
  x_test = x_test.reshape(x_test.shape[0], -1)

  mlp = MLP(x_test.shape[1], dnn_hidden_units, y_test.shape[1])
  loss_module = CrossEntropyModule()

  steps, train_losses, test_losses, train_accs, test_accs = [], [], [], [], []
  for step in range(FLAGS.max_steps):
    x, y = cifar10['train'].next_batch(FLAGS.batch_size)
    x = x.reshape(FLAGS.batch_size, -1)

    out = mlp.forward(x)
    loss = loss_module.forward(out, y)
    mlp.backward(loss_module.backward(out, y))

    # sgd
    for layer in mlp.layers:
      if isinstance(layer, LinearModule):
        layer.params['weight'] -= FLAGS.learning_rate * layer.grads['weight']
        layer.params['bias'] -= FLAGS.learning_rate * layer.grads['bias']

    if step % FLAGS.eval_freq == 0 or step == FLAGS.max_steps - 1:
      out_test = mlp.forward(x_test)
      steps.append(step)
      train_losses.append(loss)
      train_accs.append(accuracy(out, y))
      test_losses.append(loss_module.forward(out_test, y_test))
      test_accs.append(accuracy(out_test, y_test))
      print('step %d: train loss %.4f, test loss %.4f, train acc %.4f, test acc %.4f' %
            (step, train_losses[-1], test_losses[-1], train_accs[-1], test_accs[-1]))

  fig, (ax1, ax2) = plt.subplots(1, 2, figsize=(10, 4))
  ax1.plot(steps, train_losses, label='train')
  ax1.plot(steps, test_losses, label='test')
  ax1.set_title('loss')
  ax2.plot(steps, train_accs, label='train')
  ax2.plot(steps, test_accs, label='test')
  ax2.set_title('accuracy')
  ax1.legend()
  ax2.legend()
  plt.savefig('mlp_numpy.png')


def print_flags():
  """
  Prints all entries in FLAGS variable.
  """
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
                      help='Comma separated list of number of units in each hidden layer')
  parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT,
                      help='Learning rate')
  parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT,
                      help='Number of steps to run trainer.')
  parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT,
                      help='Batch size to run trainer.')
  parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT,
                      help='Frequency of evaluation on the test set')
  parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT,
                      help='Directory for storing input data')
  FLAGS, unparsed = parser.parse_known_args()

  main()
