"""
The PyTorch MLP, with a DataLoader for the test set. Correct predictions are counted, the loss is summed.
"""
import argparse
import logging
import os

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

import cifar10_utils
from mlp_pytorch import MLP

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None
logging.basicConfig(level=logging.INFO, format='%(message)s')
device = 'cuda' if torch.cuda.is_available() else 'cpu'


def accuracy(predictions, targets):
    return float(torch.sum(predictions.argmax(1) == targets.argmax(1))) / len(predictions)


@torch.no_grad()
def evaluate(net, loader):
    criterion = nn.CrossEntropyLoss(reduction='sum')
    net.eval()
    loss = correct = total = 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        scores = net(x)
        loss += criterion(scores, y).item()
        correct += (scores.max(dim=1).indices == y).sum().item()
        total += y.numel()
    net.train()
    return loss / total, correct / total


def train():
    np.random.seed(42)
    torch.manual_seed(42)
    hidden = [int(h) for h in filter(None, FLAGS.dnn_hidden_units.split(','))]

    data = cifar10_utils.get_cifar10(FLAGS.data_dir)
    test = data['test']
    loader = DataLoader(TensorDataset(torch.tensor(test.images, dtype=torch.float32).flatten(start_dim=1),
                                      torch.tensor(test.labels).argmax(dim=1)), batch_size=512)
    net = MLP(3 * 32 * 32, hidden, 10).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=FLAGS.learning_rate)

    test_log = []
    for step in range(FLAGS.max_steps):
        if step % FLAGS.eval_freq == 0:
            test_log.append(evaluate(net, loader))
            logging.info('%d test loss %.3f test accuracy %.3f', step, *test_log[-1])
        x, y = data['train'].next_batch(FLAGS.batch_size)
        x = torch.tensor(x, dtype=torch.float32, device=device).flatten(start_dim=1)
        y = torch.tensor(y, device=device).argmax(dim=1)
        net.zero_grad()
        criterion(net(x), y).backward()
        optimizer.step()
    test_log.append(evaluate(net, loader))
    logging.info('end: test accuracy %.4f', test_log[-1][1])
    np.savetxt('mlp_pytorch_test.txt', np.array(test_log))


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
