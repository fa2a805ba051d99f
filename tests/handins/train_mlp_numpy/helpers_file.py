import argparse
import os

import numpy as np

import cifar10_utils
from mlp_numpy import MLP
from modules import CrossEntropyModule
from utils import accuracy_of, flat, save_curves

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
  return accuracy_of(predictions, targets)


def train():
  np.random.seed(42)

  dnn_hidden_units = []
  if FLAGS.dnn_hidden_units:
    dnn_hidden_units = list(map(int, FLAGS.dnn_hidden_units.split(",")))

  cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir, one_hot=True, validation_size=0)
  train_set, test_set = cifar10['train'], cifar10['test']
  n_features = np.prod(train_set.images.shape[1:])
  net = MLP(n_features, dnn_hidden_units, train_set.labels.shape[1])
  ce = CrossEntropyModule()

  steps, losses, accs = [], {'train': [], 'test': []}, {'train': [], 'test': []}
  # step 0 is the untrained network, therefore + 1
  for step in range(FLAGS.max_steps + 1):
    x, y = train_set.next_batch(FLAGS.batch_size)
    out = net.forward(flat(x))

    if step % FLAGS.eval_freq == 0:
      steps.append(step)
      losses['train'].append(ce.forward(out, y))
      accs['train'].append(accuracy(out, y))
      test_out = [net.forward(flat(part)) for part in np.split(test_set.images, 5)]  # 5 x 2000
      test_out = np.concatenate(test_out)
      losses['test'].append(ce.forward(test_out, test_set.labels))
      accs['test'].append(accuracy(test_out, test_set.labels))
      print(f"step {step}: loss {losses['test'][-1]:.4f}, accuracy {accs['test'][-1]:.4f}")
      # the forward pass on the test set has overwritten what the modules keep
      out = net.forward(flat(x))

    net.backward(ce.backward(out, y))
    for params, grads, key in net.parameters():
      params[key] -= FLAGS.learning_rate * grads[key]

  save_curves(steps, losses['train'], losses['test'], 'mlp_numpy_loss')
  save_curves(steps, accs['train'], accs['test'], 'mlp_numpy_accuracy')


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
  parser.add_argument('--dnn_hidden_units', type = str, default = DNN_HIDDEN_UNITS_DEFAULT)
  parser.add_argument('--learning_rate', type = float, default = LEARNING_RATE_DEFAULT)
  parser.add_argument('--max_steps', type = int, default = MAX_STEPS_DEFAULT)
  parser.add_argument('--batch_size', type = int, default = BATCH_SIZE_DEFAULT)
  parser.add_argument('--eval_freq', type = int, default = EVAL_FREQ_DEFAULT)
  parser.add_argument('--data_dir', type = str, default = DATA_DIR_DEFAULT)
  FLAGS, unparsed = parser.parse_known_args()

  main()
