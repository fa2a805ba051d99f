"""
Training of the PyTorch MLP. The images are float64, so the model is as well.
"""
import argparse
import os

import numpy as np
import torch
import torch.nn as nn
import matplotlib.pyplot as plt
from PIL import Image

from mlp_pytorch import MLP
import cifar10_utils

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def accuracy(predictions, targets):
    same = torch.eq(predictions.max(1)[1], targets.max(1)[1])
    return torch.mean(same.float()).item()


def evaluate(model, split, loss_fn, n=1000):
    model.eval()
    acc, loss = 0., 0.
    n_batches = split.images.shape[0] // n
    with torch.no_grad():
        for i in range(n_batches):
            x = torch.tensor(split.images[i * n:(i + 1) * n], device=device).double().flatten(1)
            y = torch.tensor(split.labels[i * n:(i + 1) * n], device=device)
            out = model(x)
            acc += accuracy(out, y) / n_batches
            loss += loss_fn(out, y.max(1)[1]).item() / n_batches
    model.train()
    return loss, acc


def train():
    np.random.seed(42)
    torch.manual_seed(42)
    hidden_units = FLAGS.dnn_hidden_units.split(",") if FLAGS.dnn_hidden_units else []
    hidden_units = [int(h) for h in hidden_units]

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    model = MLP(3072, hidden_units, 10).double().to(device)
    print(model)
    loss_fn = nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=FLAGS.learning_rate)

    curves = {'train loss': [], 'test loss': [], 'test accuracy': []}
    for step in range(FLAGS.max_steps):
        x, y = cifar10['train'].next_batch(FLAGS.batch_size)
        x = torch.from_numpy(x).double().to(device).view(FLAGS.batch_size, -1)
        y = torch.from_numpy(y).to(device)
        loss = loss_fn(model(x), y.max(1)[1])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        curves['train loss'].append((step, loss.item()))
        if step % FLAGS.eval_freq == 0 or (step + 1) == FLAGS.max_steps:
            test_loss, test_acc = evaluate(model, cifar10['test'], loss_fn)
            curves['test loss'].append((step, test_loss))
            curves['test accuracy'].append((step, test_acc))
            print('Step {:4d} - test loss {:.4f} - test accuracy {:.4f}'.format(step, test_loss, test_acc))

    fig, axes = plt.subplots(3, 1)
    for ax, (name, points) in zip(axes, curves.items()):
        points = np.array(points)
        ax.plot(points[:, 0], points[:, 1])
        ax.set_ylabel(name)
    fig.savefig('results/pytorch_mlp.png')


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
    parser.add_argument('--dnn_hidden_units', type=str, default=DNN_HIDDEN_UNITS_DEFAULT,
                        help='Comma separated list of number of units in each hidden layer')
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT, help='Learning rate')
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT, help='Number of steps')
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT, help='Batch size')
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT, help='Frequency of evaluation')
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT, help='Directory of the data')
    FLAGS, unparsed = parser.parse_known_args()

    main()
