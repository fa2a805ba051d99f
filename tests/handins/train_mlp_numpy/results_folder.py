"""
Training of the MLP of mlp_numpy.py, evaluation in batches of 1000 images
"""
import argparse
import numpy as np
import os
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
from mlp_numpy import MLP
from modules import *
import cifar10_utils

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100
DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
    n_correct = (predictions.argmax(1) == targets.argmax(1)).sum()
    return n_correct / targets.shape[0]


def evaluate(net, criterion, dataset, batch=1000):
    """mean loss and accuracy over a whole split"""
    losses, accs = [], []
    for start in range(0, 10000, batch):
        x = dataset.images[start:start + batch].reshape(-1, 3072)
        t = dataset.labels[start:start + batch]
        p = net.forward(x)
        losses.append(criterion.forward(p, t))
        accs.append(accuracy(p, t))
    return np.mean(losses), np.mean(accs)


def train():
    np.random.seed(42)
    hidden = []
    if FLAGS.dnn_hidden_units:
        hidden = [int(u) for u in FLAGS.dnn_hidden_units.split(",")]

    data = cifar10_utils.get_cifar10(FLAGS.data_dir)
    net = MLP(3 * 32 * 32, hidden, 10)
    criterion = CrossEntropyModule()
    lr = FLAGS.learning_rate

    history = {'step': [], 'loss': [], 'acc': [], 'train_loss': []}
    running = []
    for i in range(FLAGS.max_steps):
        images, labels = data.train.next_batch(FLAGS.batch_size)
        images = images.reshape((images.shape[0], 3072))
        probs = net.forward(images)
        running.append(criterion.forward(probs, labels))
        net.backward(criterion.backward(probs, labels))
        for lin in net.linear_layers:
            lin.params['weight'] -= lr * lin.grads['weight']
            lin.params['bias'] -= lr * lin.grads['bias']

        if (i + 1) % FLAGS.eval_freq == 0:
            loss, acc = evaluate(net, criterion, data.test)
            history['step'].append(i + 1)
            history['loss'].append(loss)
            history['acc'].append(acc)
            history['train_loss'].append(np.mean(running))
            running = []
            print('[{}/{}] test loss {:.3f} test accuracy {:.3f}'.format(i + 1, FLAGS.max_steps, loss, acc))

    plt.figure()
    plt.plot(history['step'], history['train_loss'], 'b', label='training loss')
    plt.plot(history['step'], history['loss'], 'r', label='test loss')
    plt.legend()
    plt.savefig('./results/numpy_loss.png')
    plt.figure()
    plt.plot(history['step'], history['acc'])
    plt.ylabel('accuracy')
    plt.savefig('./results/numpy_accuracy.png')


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
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT)
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT)
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT)
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT)
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT)
    FLAGS, unparsed = parser.parse_known_args()

    main()
