from modules import *


class MLP(object):
  """
  Linear layers with ELU between them. forward returns the logits: the training script puts the
  softmax on top, and gives backward the gradient of the loss with respect to the logits.
  """

  def __init__(self, n_inputs, n_hidden, n_classes):
    widths = [n_inputs] + n_hidden + [n_classes]
    self.layers = [LinearModule(widths[0], widths[1])]
    for k in range(1, len(widths) - 1):
      self.layers += [ELUModule(), LinearModule(widths[k], widths[k + 1])]

  def forward(self, x):
    for layer in self.layers:
      x = layer.forward(x)
    return x

  def backward(self, dout):
    for layer in self.layers[::-1]:
      dout = layer.backward(dout)

  def update(self, learning_rate):
    for layer in self.layers[::2]:
      layer.params['weight'] -= learning_rate * layer.grads['weight']
      layer.params['bias'] -= learning_rate * layer.grads['bias']
