import argparse
import numpy as np
import os
from mlp_numpy import MLP
from modules import CrossEntropyModule
import cifar10_utils
import matplotlib.pyplot as plt

DNN_HIDDEN_UNITS_DEFAULT = '100'
LEARNING_RATE_DEFAULT = 1e-3
MAX_STEPS_DEFAULT = 1400
BATCH_SIZE_DEFAULT = 200
EVAL_FREQ_DEFAULT = 100

DATA_DIR_DEFAULT = './cifar10/cifar-10-batches-py'

FLAGS = None


def accuracy(predictions, targets):
    pred = np.argmax(predictions, axis=1)
    true = np.argmax(targets, axis=1)
    accuracy = np.sum(pred == true) / len(true)
    return accuracy


def test(model, testset, loss_fn):
    # 100 batches of 100 are the whole test set
    total_loss, total_acc = 0, 0
    for _ in range(100):
        x, y = testset.next_batch(100)
        out = model.forward(x.reshape(100, -1))
        total_loss += loss_fn.forward(out, y)
        total_acc += accuracy(out, y)
    return total_loss / 100, total_acc / 100


def train():
    ### DO NOT CHANGE SEEDS!
    np.random.seed(42)

    if FLAGS.dnn_hidden_units:
        dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
        dnn_hidden_units = [int(h) for h in dnn_hidden_units]
    else:
        dnn_hidden_units = []

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    trainset, testset = cifar10['train'], cifar10['test']
    x0, y0 = trainset.images[0], trainset.labels[0]

    model = MLP(x0.size, dnn_hidden_units, y0.size)
    loss_fn = CrossEntropyModule()

    loss_train, acc_train, loss_test, acc_test = [], [], [], []
    for step in range(FLAGS.max_steps):
        x, y = trainset.next_batch(FLAGS.batch_size)
        out = model.forward(x.reshape(len(x), -1))
        loss_train.append(loss_fn.forward(out, y))
        acc_train.append(accuracy(out, y))
        model.backward(loss_fn.backward(out, y))
        model.step(FLAGS.learning_rate)

        if step % FLAGS.eval_freq == FLAGS.eval_freq - 1:
            l, a = test(model, testset, loss_fn)
            loss_test.append(l)
            acc_test.append(a)
            print("Step", step + 1, "test accuracy", a, "test loss", l)

    print("best accuracy:", max(acc_test, default=0))

    test_steps = np.arange(1, len(acc_test) + 1) * FLAGS.eval_freq
    plt.plot(loss_train, alpha=0.5, label="train loss")
    plt.plot(test_steps, loss_test, label="test loss")
    plt.legend()
    plt.show()
    plt.plot(acc_train, alpha=0.5, label="train accuracy")
    plt.plot(test_steps, acc_test, label="test accuracy")
    plt.legend()
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
    parser.add_argument('--dnn_hidden_units', type=str, default=DNN_HIDDEN_UNITS_DEFAULT,
                        help='Comma separated list of number of units in each hidden layer')
    parser.add_argument('--learning_rate', type=float, default=LEARNING_RATE_DEFAULT, help='Learning rate')
    parser.add_argument('--max_steps', type=int, default=MAX_STEPS_DEFAULT, help='Number of training steps')
    parser.add_argument('--batch_size', type=int, default=BATCH_SIZE_DEFAULT, help='Batch size')
    parser.add_argument('--eval_freq', type=int, default=EVAL_FREQ_DEFAULT, help='Steps between two evaluations')
    parser.add_argument('--data_dir', type=str, default=DATA_DIR_DEFAULT, help='Folder of the data')
    FLAGS, unparsed = parser.parse_known_args()

    main()
