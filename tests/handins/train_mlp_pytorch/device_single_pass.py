"""
Trains and evaluates the PyTorch MLP.
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import argparse
import numpy as np
import os
import matplotlib.pyplot as plt
import torch
import torch.nn as nn
import torch.optim as optim
from mlp_pytorch import MLP
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
  predictions: 2D float tensor, targets: 2D tensor of one-hot rows
  """
  return (predictions.argmax(dim=1) == targets.argmax(dim=1)).float().mean().item()


def train():
  np.random.seed(42)
  torch.manual_seed(42)

  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
    dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
  else:
    dnn_hidden_units = []

  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  data = cifar10_utils.get_cifar10(FLAGS.data_dir)

  def to_tensors(x, y):
    x = torch.from_numpy(x.reshape(x.shape[0], -1)).float().to(device)
    return x, torch.from_numpy(y).float().to(device)

  x_test, y_test = to_tensors(data['test'].images, data['test'].labels)

  model = MLP(x_test.shape[1], dnn_hidden_units, y_test.shape[1]).to(device)
  criterion = nn.CrossEntropyLoss()
  optimizer = optim.SGD(model.parameters(), lr=FLAGS.learning_rate)

  history = []
  for step in range(FLAGS.max_steps):
    x, y = to_tensors(*data['train'].next_batch(FLAGS.batch_size))
    optimizer.zero_grad()
    out = model(x)
    loss = criterion(out, y.argmax(dim=1))
    loss.backward()
    optimizer.step()

    if step % FLAGS.eval_freq == 0 or step == FLAGS.max_steps - 1:
      with torch.no_grad():
        out_test = model(x_test)
        loss_test = criterion(out_test, y_test.argmax(dim=1))
      history.append((step, loss.item(), loss_test.item(), accuracy(out, y), accuracy(out_test, y_test)))
      print('step %d  loss %.4f/%.4f  accuracy %.4f/%.4f' % history[-1])

  steps, l1, l2, a1, a2 = zip(*history)
  for name, curve_train, curve_test in [('loss', l1, l2), ('accuracy', a1, a2)]:
    plt.figure()
    plt.plot(steps, curve_train, label='train')
    plt.plot(steps, curve_test, label='test')
    plt.title(name)
    plt.legend()
    plt.savefig('mlp_pytorch_%s.png' % name)


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
