import argparse
import os
from dataclasses import dataclass, fields
import numpy as np
import matplotlib.pyplot as plt
import cifar10_utils
from mlp_numpy import MLP
from modules import CrossEntropyModule

@dataclass
class Defaults:
    dnn_hidden_units: str = '100'
    learning_rate: float = 1e-3
    max_steps: int = 1400
    batch_size: int = 200
    eval_freq: int = 100
    data_dir: str = './cifar10/cifar-10-batches-py'


FLAGS = None


def accuracy(predictions, targets):
    return (predictions.argmax(axis=1) == targets.argmax(axis=1)).astype(float).mean()


def batches(split, size):
    """Yields a data set in order, the last batch may be smaller."""
    for i in range(0, split.num_examples, size):
        yield split.images[i:i + size], split.labels[i:i + size]


def flat(x):
    return x.reshape(x.shape[0], -1)


def train():
    np.random.seed(42)

    # Get number of units in each hidden layer specified in the string such as 100,100
    if FLAGS.dnn_hidden_units:
        dnn_hidden_units = FLAGS.dnn_hidden_units.split(",")
        dnn_hidden_units = [int(dnn_hidden_unit_) for dnn_hidden_unit_ in dnn_hidden_units]
    else:
        dnn_hidden_units = []

    cifar10 = cifar10_utils.get_cifar10(FLAGS.data_dir)
    model = MLP(3072, dnn_hidden_units, 10)
    loss_fn = CrossEntropyModule()
    modules = [m for m in model if hasattr(m, 'params')]

    running, history = [], []
    for step in range(1, FLAGS.max_steps + 1):
        x, y = cifar10['train'].next_batch(FLAGS.batch_size)
        probs = model(flat(x))
        running.append(loss_fn(probs, y))
        model.backward(loss_fn.backward(probs, y))
        for m in modules:
            for key, grad in m.grads.items():
                m.params[key] -= FLAGS.learning_rate * grad

        if step % FLAGS.eval_freq == 0 or step == FLAGS.max_steps:
            loss = acc = 0
            for x, y in batches(cifar10['test'], 300):
                probs = model(flat(x))
                loss += loss_fn(probs, y) * len(x)
                acc += accuracy(probs, y) * len(x)
            n = cifar10['test'].num_examples
            history.append((step, np.mean(running), loss / n, acc / n))
            running = []
            print("step %d: train loss %.3f, test loss %.3f, test accuracy %.3f" % history[-1])

    history = np.array(history)
    np.savetxt('mlp_numpy.txt', history, header='step train_loss test_loss test_accuracy')
    plt.subplot(121)
    plt.plot(history[:, 0], history[:, 1:3])
    plt.subplot(122)
    plt.plot(history[:, 0], history[:, 3])
    plt.savefig('mlp_numpy.png')


def print_flags():
    """
    Prints all entries in FLAGS variable.
    """
    for key, value in vars(FLAGS).items():
        print(key + ' : ' + str(value))


def main():
    """
    Main function
    """
    # Print all Flags to confirm parameter settings
    print_flags()

    if not os.path.exists(FLAGS.data_dir):
        os.makedirs(FLAGS.data_dir)

    # Run the training operation
    train()


if __name__ == '__main__':
    # Command line arguments
    parser = argparse.ArgumentParser()
    for field in fields(Defaults):
        parser.add_argument('--' + field.name, type=field.type, default=field.default)
    FLAGS, unparsed = parser.parse_known_args()

    main()
