"""
Trains and evaluates the ConvNet.
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
from convnet_pytorch import ConvNet
import cifar10_utils

# Default constants
LEARNING_RATE_DEFAULT = 1e-4
BATCH_SIZE_DEFAULT = 32
MAX_STEPS_DEFAULT = 5000
EVAL_FREQ_DEFAULT = 500
OPTIMIZER_DEFAULT = 'ADAM'

# Directory in which cifar data is saved
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  """
  predictions: scores of shape [batch_size, n_classes]
  targets: one-hot labels of shape [batch_size, n_classes]
  """
  return (predictions.argmax(dim=1) == targets.argmax(dim=1)).float().mean().item()


def evaluate(model, images, labels, criterion, device, batch_size=100):
  """accuracy and loss on all images, 100 at a time"""
  model.eval()
  accs, losses = [], []
  with torch.no_grad():
    for i in range(0, len(images), batch_size):
      x = images[i:i + batch_size].to(device)
      y = labels[i:i + batch_size].to(device)
      out = model(x)
      accs.append(accuracy(out, y))
      losses.append(criterion(out, y.argmax(dim=1)).item())
  model.train()
  return np.mean(accs), np.mean(losses)


def train():
  """
  Trains the ConvNet and tests it on the whole test set every eval_freq steps.
  """
  np.random.seed(42)
  torch.manual_seed(42)

  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  x_test = torch.from_numpy(cifar10['test'].images).float()
  y_test = torch.from_numpy(cifar10['test'].labels)

  model = ConvNet(3, 10).to(device)
  criterion = nn.CrossEntropyLoss()
  optimizer = torch.optim.Adam(model.parameters(), lr=FLAGS.learning_rate)

  steps, train_losses, train_accs, test_losses, test_accs = [], [], [], [], []
  for step in range(FLAGS.max_steps):
    x, y = cifar10['train'].next_batch(FLAGS.batch_size)
    x = torch.from_numpy(x).float().to(device)
    y = torch.from_numpy(y).to(device)

    optimizer.zero_grad()
    out = model(x)
    loss = criterion(out, y.argmax(dim=1))
    loss.backward()
    optimizer.step()

    if step % FLAGS.eval_freq == 0 or step == FLAGS.max_steps - 1:
      test_acc, test_loss = evaluate(model, x_test, y_test, criterion, device)
      steps.append(step)
      train_losses.append(loss.item())
      train_accs.append(accuracy(out, y))
      test_losses.append(test_loss)
      test_accs.append(test_acc)
      print('step %d, train loss %.3f, test loss %.3f, test accuracy %.3f' %
            (step, loss.item(), test_loss, test_acc))

  fig, (ax1, ax2) = plt.subplots(1, 2, figsize=(12, 4))
  ax1.plot(steps, train_losses, label='train loss')
  ax1.plot(steps, test_losses, label='test loss')
  ax1.legend()
  ax2.plot(steps, train_accs, label='train accuracy')
  ax2.plot(steps, test_accs, label='test accuracy')
  ax2.legend()
  plt.savefig('convnet.png')


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
