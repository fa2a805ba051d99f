import argparse
import numpy as np
import os
import torch
import torch.nn.functional as F
from mlp_pytorch import MLP
import cifar10_utils
import matplotlib.pyplot as plt

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  # works for numpy arrays and for tensors
  predictions, targets = torch.as_tensor(predictions), torch.as_tensor(targets)
  hits = torch.argmax(predictions, 1).eq(torch.argmax(targets, 1))
  return hits.double().mean().item()


def loss_function(probs, targets):
  # the network gives probabilities, NLL wants logs
  return F.nll_loss(torch.log(probs + 1e-10), targets.argmax(1))


def train():
  np.random.seed(42)
  torch.manual_seed(42)

  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
    dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
  else:
    dnn_hidden_units = []

  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
  mlp = MLP(3072, dnn_hidden_units, 10)
  optimizer = torch.optim.SGD(mlp.parameters(), FLAGS.learning_rate)

  x_test = torch.Tensor(cifar10.test.images).reshape(10000, 3072)
  t_test = torch.Tensor(cifar10.test.labels)

  evaluations = {}
  for step in range(1, FLAGS.max_steps + 1):
    x, t = cifar10.train.next_batch(FLAGS.batch_size)
    x, t = torch.Tensor(x).reshape(-1, 3072), torch.Tensor(t)
    mlp.zero_grad()
    loss = loss_function(mlp(x), t)
    loss.backward()
    optimizer.step()

    if step % FLAGS.eval_freq == 0 or step == 1:
      with torch.no_grad():
        p = torch.cat([mlp(part) for part in x_test.split(1000)])
        evaluations[step] = loss.item(), loss_function(p, t_test).item(), accuracy(p, t_test)
      print(step, evaluations[step])

  if not os.path.exists('images'):
    os.mkdir('images')
  xs = sorted(evaluations)
  plt.plot(xs, [evaluations[s][0] for s in xs], label='train loss')
  plt.plot(xs, [evaluations[s][1] for s in xs], label='test loss')
  plt.plot(xs, [evaluations[s][2] for s in xs], label='test accuracy')
  plt.legend()
  plt.savefig('images/mlp_pytorch.png')
  torch.save(mlp.state_dict(), 'mlp.pt')


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
  parser.add_argument('--dnn_hidden_units', type=str, default=DNN_HIDDEN_UNITS_DEFAULT, help='hidden units')
  parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT, help='learning rate')
  parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT, help='number of steps')
  parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT, help='batch size')
  parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT, help='evaluation frequency')
  parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT, help='data directory')
  FLAGS, unparsed = parser.parse_known_args()

  main()
