import argparse
import numpy as np
import os
import torch
import torch.nn as nn
import torch.optim as optim
from torch.autograd import Variable
from convnet_pytorch import ConvNet
import cifar10_utils
import matplotlib.pyplot as plt

LEARNING_RATE_DEFAULT = 1e-4
BATCH_SIZE_DEFAULT = 32
MAX_STEPS_DEFAULT = 5000
EVAL_FREQ_DEFAULT = 500
OPTIMIZER_DEFAULT = 'ADAM'
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None

use_cuda = torch.cuda.is_available()


def accuracy(predictions, targets):
    _, predicted = torch.max(predictions.data, 1)
    _, labels = torch.max(targets.data, 1)
    return 100.0 * (predicted == labels).sum().item() / len(labels) / 100.0


def to_variable(x, y):
    x, y = Variable(torch.from_numpy(x)).float(), Variable(torch.from_numpy(y)).long()
    return (x.cuda(), y.cuda()) if use_cuda else (x, y)


def train():
    np.random.seed(42)
    torch.manual_seed(42)

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    net = ConvNet(3, 10)
    if use_cuda:
        net = net.cuda()
    loss_function = nn.CrossEntropyLoss()
    if OPTIMIZER_DEFAULT == 'ADAM':
        optimizer = optim.Adam(net.parameters(), lr=FLAGS.learning_rate)

    loss_curve, test_loss_curve, test_acc_curve = [], [], []
    for step in range(1, FLAGS.max_steps + 1):
        net.train()
        x, y = to_variable(*cifar10['train'].next_batch(FLAGS.batch_size))
        out = net(x)
        loss = loss_function(out, torch.max(y, 1)[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_curve.append(loss.item())

        if step % FLAGS.eval_freq == 0:
            net.eval()
            n_batches = cifar10['test'].num_examples // 50
            test_loss, test_acc = 0, 0
            with torch.no_grad():
                for _ in range(n_batches):
                    x, y = to_variable(*cifar10['test'].next_batch(50))
                    out = net(x)
                    test_loss += loss_function(out, torch.max(y, 1)[1]).item()
                    test_acc += accuracy(out, y)
            test_loss_curve.append(test_loss / n_batches)
            test_acc_curve.append(test_acc / n_batches)
            print('Step', step, '| loss', loss_curve[-1], '| test loss', test_loss_curve[-1],
                  '| test accuracy', test_acc_curve[-1])

    xs = [FLAGS.eval_freq * (i + 1) for i in range(len(test_acc_curve))]
    plt.figure(0)
    plt.plot(range(1, len(loss_curve) + 1), loss_curve, label='train')
    plt.plot(xs, test_loss_curve, label='test')
    plt.legend()
    plt.savefig('./images/conv_loss.png')
    plt.figure(1)
    plt.plot(xs, test_acc_curve)
    plt.savefig('./images/conv_acc.png')


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
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT, help='Learning rate')
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT, help='Number of steps')
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT, help='Batch size')
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT, help='Evaluation frequency')
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT, help='Data directory')
    FLAGS, unparsed = parser.parse_known_args()

    main()
