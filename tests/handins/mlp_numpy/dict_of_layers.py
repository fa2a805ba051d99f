from collections import OrderedDict

from modules import *


class MLP(object):
  """
  The layers by name, in the order in which they are called.
  The MLP flattens images itself if it gets any.
  """

  def __init__(self, n_inputs, n_hidden, n_classes):
    self.n_inputs = n_inputs
    self.net = OrderedDict()
    for i, n in enumerate(n_hidden):
      self.net['fc%d' % (i + 1)] = LinearModule(n_inputs if i == 0 else n_hidden[i - 1], n)
      self.net['act%d' % (i + 1)] = ELUModule()
    last = n_hidden[-1] if len(n_hidden) > 0 else n_inputs
    self.net['fc_out'] = LinearModule(last, n_classes)
    self.net['softmax'] = SoftMaxModule()

  def forward(self, x):
    out = x.reshape((-1, self.n_inputs))
    for name in self.net:
      out = self.net[name].forward(out)
    return out

  def backward(self, dout):
    grad = dout
    for name in reversed(list(self.net.keys())):
      grad = self.net[name].backward(grad)
    return grad
