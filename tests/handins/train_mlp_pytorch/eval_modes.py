import argparse
import numpy as np
import os
import torch
import torch.nn as nn
from tabulate import tabulate
from mlp_pytorch import MLP
import cifar10_utils

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  """
  One-hot targets against scores.
  """
  predictions = predictions.detach().cpu().numpy()
  targets = targets.detach().cpu().numpy()
  return np.equal(predictions.argmax(axis=1), targets.argmax(axis=1)).mean()


def as_tensors(x, y):
  return torch.FloatTensor(x).view(len(x), -1), torch.FloatTensor(y)


def run_on_split(net, split, batch_size=2000):
  """accuracy and loss of all images of the split"""
  net.eval()
  criterion = nn.CrossEntropyLoss(reduction='sum')
  hits = total = 0.0
  with torch.no_grad():
    for k in range(0, split.num_examples, batch_size):
      x, y = as_tensors(split.images[k:k + batch_size], split.labels[k:k + batch_size])
      scores = net(x)
      total += criterion(scores, torch.argmax(y, 1)).item()
      hits += accuracy(scores, y) * len(x)
  net.train()
  return hits / split.num_examples, total / split.num_examples


def train():
  np.random.seed(42)
  torch.manual_seed(42)

  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = [int(u) for u in FLAGS.dnn_hidden_units.split(",")]
  else:
    dnn_hidden_units = []

  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  net = MLP(3072, dnn_hidden_units, 10)
  criterion = nn.CrossEntropyLoss()
  optimizer = torch.optim.SGD(params=net.parameters(), lr=FLAGS.learning_rate)

  rows = []
  for step in range(FLAGS.max_steps + 1):
    if step % FLAGS.eval_freq == 0 or step == FLAGS.max_steps:
      train_acc, train_loss = run_on_split(net, cifar10['train'])
      test_acc, test_loss = run_on_split(net, cifar10['test'])
      rows.append([step, train_loss, test_loss, train_acc, test_acc])
      print('step', step, 'of', FLAGS.max_steps, 'test accuracy', test_acc)
    if step == FLAGS.max_steps:
      break
    x, y = as_tensors(*cifar10['train'].next_batch(FLAGS.batch_size))
    optimizer.zero_grad()
    criterion(net(x), torch.argmax(y, 1)).backward()
    optimizer.step()

  print(tabulate(rows, headers=['step', 'train loss', 'test loss', 'train acc', 'test acc']))
  with open('mlp_pytorch.txt', 'w') as f:
    f.write(str(rows))


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
