"""
Training script, numpy MLP. The test set goes through in batches of --batch_size as well.
"""
import argparse
import json
import numpy as np
import os
import time
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
    return (np.argmax(predictions, 1) == np.argmax(targets, 1)).astype(float).mean()


def update(net, lr):
    """SGD on every attribute that is a linear layer"""
    for module in vars(net).values():
        if isinstance(module, LinearModule):
            module.params['weight'] -= lr * module.grads['weight']
            module.params['bias'] -= lr * module.grads['bias']


def eval_on_test(net, test, loss_module):
    outputs = []
    n = test.num_examples
    for begin in range(0, n, FLAGS.batch_size):
        x = test.images[begin:begin + FLAGS.batch_size]
        outputs.append(net.forward(x.reshape(x.shape[0], -1)))
    outputs = np.vstack(outputs)
    return loss_module.forward(outputs, test.labels), accuracy(outputs, test.labels)


def train():
    np.random.seed(42)

    if FLAGS.dnn_hidden_units:
        dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
        dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
    else:
        dnn_hidden_units = []

    dataset = cifar10_utils.get_cifar10(FLAGS.data_dir)
    net = MLP(3072, dnn_hidden_units, 10)
    loss_module = CrossEntropyModule()

    log = {'step': [], 'train_loss': [], 'test_loss': [], 'test_acc': []}
    t0 = time.time()
    step = 0
    while step < FLAGS.max_steps:
        x, y = dataset['train'].next_batch(FLAGS.batch_size)
        x = np.reshape(x, (FLAGS.batch_size, 3072))
        y_hat = net.forward(x)
        loss = loss_module.forward(y_hat, y)
        net.backward(loss_module.backward(y_hat, y))
        update(net, FLAGS.learning_rate)
        step += 1

        if step % FLAGS.eval_freq == 0 or step == 1 or step == FLAGS.max_steps:
            test_loss, test_acc = eval_on_test(net, dataset['test'], loss_module)
            for k, v in zip(log, [step, loss, test_loss, test_acc]):
                log[k].append(float(v))
            print('%.1fs | step %i | loss %.4f | test loss %.4f | test acc %.2f%%'
                  % (time.time() - t0, step, loss, test_loss, 100 * test_acc))

    # plots are made in the notebook from this file
    with open('log_numpy.json', 'w') as f:
        json.dump(log, f)


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
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT,
                        help='Learning rate')
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT,
                        help='Number of steps to run trainer.')
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT,
                        help='Batch size to run trainer.')
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT,
                        help='Frequency of evaluation on the test set')
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT,
                        help='Directory for storing input data')
    FLAGS, unparsed = parser.parse_known_args()

    main()
