"""
Training script for the MLP with log_softmax at the end
"""
import argparse
import os

import numpy as np
import torch
from torch import nn
from torch.autograd import Variable

import cifar10_utils
from mlp_pytorch import MLP

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None

dtype = torch.cuda.FloatTensor if torch.cuda.is_available() else torch.FloatTensor


def accuracy(predictions, targets):
    _, predicted = torch.max(predictions, 1)
    _, correct = torch.max(targets, 1)
    return (predicted == correct).sum().item() / targets.size(0)


def train():
    np.random.seed(42)
    torch.manual_seed(42)
    dnn_hidden_units = [int(n) for n in FLAGS.dnn_hidden_units.split(",")] if FLAGS.dnn_hidden_units else []

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    net = MLP(3 * 32 * 32, dnn_hidden_units, 10).type(dtype)
    loss_fn = nn.NLLLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=FLAGS.learning_rate)

    train_loss, test_acc, test_loss = [], [], []
    for step in range(FLAGS.max_steps):
        x, y = cifar10['train'].next_batch(FLAGS.batch_size)
        x = Variable(torch.from_numpy(x)).type(dtype).view(-1, 3072)
        y = Variable(torch.from_numpy(y)).type(dtype)
        log_p = net(x)
        loss = loss_fn(log_p, torch.max(y, 1)[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        train_loss.append(loss.item())

        if step % FLAGS.eval_freq == 0:
            losses, accs = [], []
            with torch.no_grad():
                for b in range(50):
                    xb, yb = cifar10['test'].next_batch(200)
                    xb = Variable(torch.from_numpy(xb)).type(dtype).view(-1, 3072)
                    yb = Variable(torch.from_numpy(yb)).type(dtype)
                    out = net(xb)
                    losses.append(loss_fn(out, torch.max(yb, 1)[1]).item())
                    accs.append(accuracy(out, yb))
            test_loss.append(np.mean(losses))
            test_acc.append(np.mean(accs))
            print('Step:', step, 'test loss:', test_loss[-1], 'test acc:', test_acc[-1])

    np.savez('pytorch_curves.npz', train_loss=train_loss, test_loss=test_loss, test_acc=test_acc)


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
