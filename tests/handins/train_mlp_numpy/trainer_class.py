"""
Everything in a class; the test set in seven unequal parts.
"""
import argparse
import os

import numpy as np

import cifar10_utils
from mlp_numpy import MLP
from modules import CrossEntropyModule

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


class AverageMeter(object):
    """Weighted average of what came so far."""

    def __init__(self):
        self.total, self.count = 0., 0

    def add(self, value, n):
        self.total += value * n
        self.count += n

    @property
    def average(self):
        return self.total / self.count


def accuracy(predictions, targets):
    hits = predictions.argmax(axis=-1) == targets.argmax(axis=-1)
    return np.count_nonzero(hits) / hits.size


class Trainer(object):
    def __init__(self, flags):
        self.flags = flags
        hidden = [int(n) for n in flags.dnn_hidden_units.split(',') if n]
        self.data = cifar10_utils.get_cifar10(flags.data_dir)
        self.net, self.loss = MLP(3072, hidden, 10), CrossEntropyModule()
        self.history = []

    def evaluate(self, step):
        loss, acc = AverageMeter(), AverageMeter()
        test = self.data['test']
        for xs, ys in zip(np.array_split(test.images, 7), np.array_split(test.labels, 7)):
            out = self.net.forward(xs.reshape(len(xs), -1))
            loss.add(self.loss.forward(out, ys), len(xs))
            acc.add(accuracy(out, ys), len(xs))
        self.history.append((step, loss.average, acc.average))
        print('[%4d] loss: %.3f   acc: %.1f %%' % (step, loss.average, 100 * acc.average))

    def run(self):
        for step in range(1, self.flags.max_steps + 1):
            x, y = self.data['train'].next_batch(self.flags.batch_size)
            out = self.net.forward(x.reshape(len(x), -1))
            self.net.backward(self.loss.backward(out, y))
            self.net.step(self.flags.learning_rate)
            if step % self.flags.eval_freq == 0:
                self.evaluate(step)


def train():
    np.random.seed(42)
    trainer = Trainer(FLAGS)
    trainer.run()
    with open('history.csv', 'w') as f:
        f.writelines('%d,%f,%f\n' % row for row in trainer.history)


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
