"""
Training and testing of the ConvNet, one function for each part
"""
import argparse
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn

import cifar10_utils
from convnet_pytorch import ConvNet

LEARNING_RATE_DEFAULT = 1e-4
BATCH_SIZE_DEFAULT = 32
MAX_STEPS_DEFAULT = 5000
EVAL_FREQ_DEFAULT = 500
OPTIMIZER_DEFAULT = 'ADAM'
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  guess = torch.as_tensor(predictions).argmax(1)
  truth = torch.as_tensor(targets).argmax(1)
  return float((guess == truth).sum()) / float(guess.numel())


def prepare(batch, device):
  x, y = batch
  return torch.from_numpy(x.astype(np.float32)).to(device), torch.from_numpy(y.argmax(axis=1)).to(device)


def train_step(net, optimizer, criterion, batch, device):
  net.train()
  x, y = prepare(batch, device)
  scores = net(x)
  loss = criterion(scores, y)
  optimizer.zero_grad()
  loss.backward()
  optimizer.step()
  return loss.item()


def test(net, dataset, criterion, device, size=32):
  net.eval()
  scores, labels = [], []
  for start in range(0, dataset.num_examples, size):
    part = slice(start, start + size)
    x, y = prepare((dataset.images[part], dataset.labels[part]), device)
    with torch.no_grad():
      scores.append(net(x).cpu())
    labels.append(y.cpu())
  scores, labels = torch.cat(scores), torch.cat(labels)
  one_hot = torch.eye(10)[labels]
  return criterion(scores, labels).item(), accuracy(scores, one_hot)


def train():
  np.random.seed(42)
  torch.manual_seed(42)

  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  net = ConvNet(3, 10).to(device)
  criterion = nn.CrossEntropyLoss().to(device)
  optimizer = torch.optim.Adam(net.parameters(), lr=FLAGS.learning_rate)

  start = time.time()
  losses, results = [], []
  for step in range(FLAGS.max_steps):
    losses.append(train_step(net, optimizer, criterion, cifar10['train'].next_batch(FLAGS.batch_size), device))
    if (step + 1) % FLAGS.eval_freq == 0:
      results.append((step + 1,) + test(net, cifar10['test'], criterion, device))
      print('step %5d: test loss %.4f, test accuracy %.4f' % results[-1], '(%ds)' % (time.time() - start))

  os.makedirs('results', exist_ok=True)
  np.savetxt('results/convnet_losses.csv', losses, delimiter=',')
  np.savetxt('results/convnet_test.csv', np.array(results).reshape(-1, 3), delimiter=',')
  plt.plot(losses)
  if results:
    plt.plot([r[0] for r in results], [r[1] for r in results])
    plt.twinx().plot([r[0] for r in results], [r[2] for r in results], 'g')
  plt.savefig('results/convnet.png')


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
  parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT)
  parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT)
  parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT)
  parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT)
  parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT)
  FLAGS, unparsed = parser.parse_known_args()

  main()
