"""
Training of the ConvNet. Test batches are as large as the training batches, the last one may be smaller.
"""
import argparse
import os
import pickle

import numpy as np
import torch
import torch.nn.functional as F

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
  with torch.no_grad():
    wrong = predictions.argmax(-1) != targets.argmax(-1)
    return 1 - wrong.float().mean().item()


@torch.no_grad()
def test(net, images, labels, device):
  net.eval()
  loss, acc, seen = 0.0, 0.0, 0
  while seen < len(images):
    x = torch.tensor(images[seen:seen + FLAGS.batch_size], dtype=torch.float, device=device)
    y = torch.tensor(labels[seen:seen + FLAGS.batch_size], dtype=torch.float, device=device)
    out = net(x)
    loss += F.cross_entropy(out, y.argmax(1), reduction='sum').item()
    acc += accuracy(out, y) * x.shape[0]
    seen += x.shape[0]
  return loss / seen, acc / seen


def train():
  np.random.seed(42)
  torch.manual_seed(42)

  device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
  data = cifar10_utils.get_cifar10(FLAGS.data_dir)
  net = ConvNet(n_channels=3, n_classes=10).to(device)
  adam = torch.optim.Adam(net.parameters(), lr=FLAGS.learning_rate)

  log = []
  mean_loss = []
  for step in range(FLAGS.max_steps + 1):
    if step % FLAGS.eval_freq == 0:
      test_loss, test_acc = test(net, data.test.images, data.test.labels, device)
      log.append((step, np.mean(mean_loss) if mean_loss else None, test_loss, test_acc))
      mean_loss = []
      print(log[-1])
    if step == FLAGS.max_steps:
      break

    net.train()
    x, y = data.train.next_batch(FLAGS.batch_size)
    x = torch.tensor(x, dtype=torch.float, device=device)
    y = torch.tensor(y, dtype=torch.float, device=device)
    loss = F.cross_entropy(net(x), y.argmax(1))
    adam.zero_grad()
    loss.backward()
    adam.step()
    mean_loss.append(loss.item())

  with open('convnet_log.pkl', 'wb') as f:
    pickle.dump(log, f)
  torch.save(net.state_dict(), 'convnet.pth')


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
