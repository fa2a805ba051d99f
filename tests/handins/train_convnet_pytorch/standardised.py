"""
ConvNet on standardised images, training images are flipped at random.
"""
import argparse
import os

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
    return (predictions.argmax(1) == targets.argmax(1)).double().mean().item()


class Classifier(object):
    def __init__(self, flags):
        self.data = cifar10_utils.get_cifar10(flags.data_dir)
        # of a part of the training images; one number for each channel
        some = self.data['train'].images[:5000]
        self.mean, self.std = (f(some, axis=(0, 2, 3)).reshape(1, 3, 1, 1) for f in (np.mean, np.std))
        self.device = torch.device('cuda:0') if torch.cuda.is_available() else torch.device('cpu')
        self.net = ConvNet(3, 10).to(self.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=flags.learning_rate)
        self.criterion = nn.CrossEntropyLoss()

    def tensors(self, x, y, flip=False):
        x = (x - self.mean) / self.std
        if flip:
            which = np.random.rand(len(x)) < 0.5
            x = np.where(which[:, None, None, None], x[..., ::-1], x)
        return (torch.from_numpy(np.ascontiguousarray(x)).float().to(self.device),
                torch.from_numpy(y).float().to(self.device))

    def step(self, batch_size):
        self.net.train()
        x, y = self.tensors(*self.data['train'].next_batch(batch_size), flip=True)
        loss = self.criterion(self.net(x), y.argmax(1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def test(self, size=250):
        self.net.eval()
        test = self.data['test']
        accs = np.zeros(test.num_examples // size)
        with torch.no_grad():
            for i in range(len(accs)):
                x, y = self.tensors(test.images[i * size:(i + 1) * size], test.labels[i * size:(i + 1) * size])
                accs[i] = accuracy(self.net(x), y)
        return accs.mean()


def train():
    np.random.seed(42)
    torch.manual_seed(42)
    classifier = Classifier(FLAGS)
    accuracies = {}
    for step in range(FLAGS.max_steps):
        loss = classifier.step(FLAGS.batch_size)
        if step % FLAGS.eval_freq == FLAGS.eval_freq - 1:
            accuracies[step + 1] = classifier.test()
            print(f'{step + 1}: loss {loss:.2f}, test {accuracies[step + 1]:.1%}')
    torch.save({'accuracies': accuracies, 'net': classifier.net.state_dict()}, 'convnet.tar')


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
