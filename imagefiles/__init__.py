"""How the files of CIFAR-10 and MNIST are read, checked, fetched and drawn.

Start at `cifar10_utils.py`, which uses them.
"""
