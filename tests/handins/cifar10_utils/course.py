"""
Reads the CIFAR10 files and hands the images out in mini-batches.
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import os
import pickle

import numpy as np

N_CLASSES = 10
CIFAR10_FOLDER = './cifar10/cifar-10-batches-py'


def load_file(path):
  """Images (N, 3, 32, 32) and labels (N,) of one of the pickled files."""
  with open(path, 'rb') as f:
    content = pickle.load(f, encoding='latin1')
  X = content['data']
  Y = content['labels']
  X = X.reshape(10000, 3, 32, 32).astype("float")
  Y = np.array(Y)
  return X, Y


def load_all(folder):
  """The five training files as one array, and the test file."""
  parts = [load_file(os.path.join(folder, 'data_batch_%d' % i)) for i in range(1, 6)]
  X_train = np.concatenate([p[0] for p in parts])
  Y_train = np.concatenate([p[1] for p in parts])
  del parts
  X_test, Y_test = load_file(os.path.join(folder, 'test_batch'))
  return X_train, Y_train, X_test, Y_test


def dense_to_one_hot(labels_dense, num_classes):
  """Class numbers (N,) to one-hot rows (N, num_classes)."""
  num_labels = labels_dense.shape[0]
  one_hot = np.zeros((num_labels, num_classes))
  one_hot[np.arange(num_labels), labels_dense] = 1
  return one_hot


class DataSet(object):
  """One split of the data."""

  def __init__(self, images, labels):
    assert images.shape[0] == labels.shape[0], \
      'images: %s, labels: %s' % (images.shape, labels.shape)
    self._num_examples = images.shape[0]
    self._images = images
    self._labels = labels
    self._epochs_completed = 0
    self._position = 0

  @property
  def images(self):
    return self._images

  @property
  def labels(self):
    return self._labels

  @property
  def num_examples(self):
    return self._num_examples

  @property
  def epochs_completed(self):
    return self._epochs_completed

  def next_batch(self, batch_size):
    """The next batch_size examples; a new epoch begins in a new random order."""
    assert batch_size <= self._num_examples
    if self._position + batch_size > self._num_examples:
      self._epochs_completed += 1
      order = np.random.permutation(self._num_examples)
      self._images = self._images[order]
      self._labels = self._labels[order]
      self._position = 0
    start, self._position = self._position, self._position + batch_size
    return self._images[start:self._position], self._labels[start:self._position]


class Splits(dict):
  """cifar10['train'] and cifar10.train are the same thing."""

  def __getattr__(self, name):
    try:
      return self[name]
    except KeyError:
      raise AttributeError(name)


def get_cifar10(data_dir=CIFAR10_FOLDER, one_hot=True, validation_size=0):
  """
  Prepares the CIFAR10 dataset.

  Args:
    data_dir: folder of the unpacked python version of CIFAR10
    one_hot: labels as one-hot rows instead of class numbers
    validation_size: how many training images go into the validation split
  Returns:
    the splits train, validation, test
  """
  X_train, Y_train, X_test, Y_test = load_all(data_dir)
  if one_hot:
    Y_train = dense_to_one_hot(Y_train, N_CLASSES)
    Y_test = dense_to_one_hot(Y_test, N_CLASSES)

  X_val, Y_val = X_train[:validation_size], Y_train[:validation_size]
  X_train, Y_train = X_train[validation_size:], Y_train[validation_size:]

  # centre everything around the mean image of the training set
  mean_image = np.mean(X_train, axis=0)
  X_train -= mean_image
  if validation_size:
    X_val -= mean_image
  X_test -= mean_image

  return Splits(train=DataSet(X_train, Y_train),
                validation=DataSet(X_val, Y_val),
                test=DataSet(X_test, Y_test))
