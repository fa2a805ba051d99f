import os

import matplotlib.pyplot as plt
import numpy as np


def accuracy_of(predictions, targets):
    """Share of the rows in which both have their largest entry in the same place."""
    return float(np.mean(predictions.argmax(axis=1) == targets.argmax(axis=1)))


def flat(images):
    return images.reshape(images.shape[0], -1)


def save_curves(steps, train_curve, test_curve, name, folder='figures'):
    if not os.path.isdir(folder):
        os.makedirs(folder)
    plt.figure()
    plt.plot(steps, train_curve, label='train')
    plt.plot(steps, test_curve, label='test')
    plt.xlabel('step')
    plt.ylabel(name)
    plt.legend()
    plt.savefig(os.path.join(folder, name + '.png'))
    plt.close()
