import argparse
import numpy as np
import os
import torch
from torch import nn
import seaborn as sns
import matplotlib.pyplot as plt
from convnet_pytorch import ConvNet
import cifar10_utils

LEARNING_RATE_DEFAULT = 1e-4
BATCH_SIZE_DEFAULT = 32
MAX_STEPS_DEFAULT = 5000
EVAL_FREQ_DEFAULT = 500
OPTIMIZER_DEFAULT = 'ADAM'
FILTERS_DEFAULT = 64
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'
TEST_BATCH = 100

FLAGS = None
device = 'cuda' if torch.cuda.is_available() else 'cpu'


def accuracy(predictions, targets):
    predictions = predictions.cpu().detach().numpy()
    targets = targets.cpu().detach().numpy()
    return np.mean(np.argmax(predictions, axis=1) == np.argmax(targets, axis=1))


def get_batch(split, n):
    x, y = split.next_batch(n)
    return torch.Tensor(x).to(device), torch.Tensor(y).to(device)


def train():
    np.random.seed(42)
    torch.manual_seed(42)

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    model = ConvNet(3, 10, FILTERS_DEFAULT)
    model.to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), FLAGS.learning_rate)

    train_curve, test_curve = {}, {}
    for i in range(FLAGS.max_steps):
        x, y = get_batch(cifar10['train'], FLAGS.batch_size)
        optimizer.zero_grad()
        pred = model(x)
        loss = loss_fn(pred, y.argmax(dim=1))
        loss.backward()
        optimizer.step()

        if i % FLAGS.eval_freq == 0 or i == FLAGS.max_steps - 1:
            train_curve[i] = (loss.item(), accuracy(pred, y))
            model.eval()
            results = []
            with torch.no_grad():
                for _ in range(len(cifar10['test'].labels) // TEST_BATCH):
                    x, y = get_batch(cifar10['test'], TEST_BATCH)
                    pred = model(x)
                    results.append((loss_fn(pred, y.argmax(dim=1)).item(), accuracy(pred, y)))
            model.train()
            test_curve[i] = np.mean(results, axis=0)
            print('iteration', i, 'test: loss %.3f accuracy %.3f' % tuple(test_curve[i]))

    sns.set_style('darkgrid')
    for k, name in enumerate(['loss', 'accuracy']):
        plt.subplot(1, 2, k + 1)
        plt.plot(list(train_curve), [v[k] for v in train_curve.values()])
        plt.plot(list(test_curve), [v[k] for v in test_curve.values()])
        plt.legend(['train', 'test'])
        plt.title(name)
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
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT)
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT)
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT)
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT)
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT)
    FLAGS, unparsed = parser.parse_known_args()

    main()
