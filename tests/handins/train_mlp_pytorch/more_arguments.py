"""
Training of the MLP with dropout and batch norm (both off by default)
"""
import argparse
import numpy as np
import os
import torch
import torch.nn as nn
import matplotlib.pyplot as plt

from mlp_pytorch import MLP
import cifar10_utils

try:
    from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter('runs')
except ImportError:
    writer = None

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DROPOUT_DEFAULT = 0.0
BATCH_NORM_DEFAULT = 0
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
    return (predictions.argmax(1) == targets.argmax(1)).float().mean()


def train():
    np.random.seed(42)
    torch.manual_seed(42)

    if FLAGS.dnn_hidden_units:
        dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
        dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
    else:
        dnn_hidden_units = []

    cuda = torch.cuda.is_available()
    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    model = MLP(3072, dnn_hidden_units, 10, FLAGS.dropout, bool(FLAGS.batch_norm))
    if cuda:
        model.cuda()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=FLAGS.learning_rate)

    test_x = torch.tensor(cifar10['test'].images, dtype=torch.float32)
    test_y = torch.tensor(cifar10['test'].labels)

    losses, test_losses, test_accs = [], [], []
    for step in range(FLAGS.max_steps):
        model.train()
        x, y = cifar10['train'].next_batch(FLAGS.batch_size)
        x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
        if cuda:
            x, y = x.cuda(), y.cuda()
        loss = criterion(model(x), y.argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().cpu().numpy())

        if step % FLAGS.eval_freq == 0:
            model.eval()
            acc = loss_sum = 0
            with torch.no_grad():
                for start in range(0, 10000, 50):
                    xb, yb = test_x[start:start + 50], test_y[start:start + 50]
                    if cuda:
                        xb, yb = xb.cuda(), yb.cuda()
                    pred = model(xb)
                    acc += accuracy(pred, yb).item() / 200
                    loss_sum += criterion(pred, yb.argmax(1)).item() / 200
            test_losses.append(loss_sum)
            test_accs.append(acc)
            print('{:5d} {:.4f} {:.4f} {:.4f}'.format(step, losses[-1], loss_sum, acc))
            if writer is not None:
                writer.add_scalar('accuracy/test', acc, step)
                writer.add_scalar('loss/test', loss_sum, step)

    plt.plot(losses)
    plt.plot(np.arange(len(test_losses)) * FLAGS.eval_freq, test_losses)
    plt.legend(['train loss', 'test loss'])
    plt.show()
    plt.plot(np.arange(len(test_accs)) * FLAGS.eval_freq, test_accs)
    plt.legend(['test accuracy'])
    plt.show()


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
    parser.add_argument('--dropout', type=float, default=DROPOUT_DEFAULT)
    parser.add_argument('--batch_norm', type=int, default=BATCH_NORM_DEFAULT)
    FLAGS, unparsed = parser.parse_known_args()

    main()
