"""
Custom layer norm. gamma and beta are rows of shape (1, n_neurons).
"""
import torch
import torch.nn as nn


def normalise(x, eps):
  centred = x - x.mean(1, keepdim=True)
  variance = (centred ** 2).mean(1, keepdim=True)
  return centred / (variance + eps).sqrt(), variance


class CustomLayerNormAutograd(nn.Module):

  def __init__(self, n_neurons, eps=1e-5):
    super(CustomLayerNormAutograd, self).__init__()
    self.eps = eps
    self.size = n_neurons
    self.beta = nn.Parameter(torch.zeros(1, n_neurons))
    self.gamma = nn.Parameter(torch.ones(1, n_neurons))

  def forward(self, input):
    if len(input.shape) != 2:
      raise Exception('Input has to be 2-dimensional')
    if input.shape[1] != self.size:
      raise Exception('Input has %d neurons instead of %d' % (input.shape[1], self.size))
    x_hat, _ = normalise(input, self.eps)
    return torch.mul(self.gamma, x_hat) + self.beta


class CustomLayerNormManualFunction(torch.autograd.Function):

  @staticmethod
  def forward(ctx, input, gamma, beta, eps=1e-5):
    x_hat, variance = normalise(input, eps)
    ctx.epsilon = eps
    ctx.save_for_backward(x_hat, variance, gamma)
    return gamma * x_hat + beta

  @staticmethod
  def backward(ctx, grad_output):
    x_hat, variance, gamma = ctx.saved_tensors
    need_input, need_gamma, need_beta, _ = ctx.needs_input_grad

    grad_input, grad_gamma, grad_beta = None, None, None
    if need_beta:
      grad_beta = grad_output.sum(0).view_as(gamma)
    if need_gamma:
      grad_gamma = torch.einsum('sm,sm->m', grad_output, x_hat).view_as(gamma)
    if need_input:
      d = grad_output * gamma
      correction = d.mean(1, keepdim=True) + x_hat * (d * x_hat).mean(1, keepdim=True)
      grad_input = (d - correction) / (variance + ctx.epsilon).sqrt()
    return grad_input, grad_gamma, grad_beta, None


class CustomLayerNormManualModule(nn.Module):

  def __init__(self, n_neurons, eps=1e-5):
    super(CustomLayerNormManualModule, self).__init__()
    self.eps = eps
    self.size = n_neurons
    self.beta = nn.Parameter(torch.zeros(1, n_neurons))
    self.gamma = nn.Parameter(torch.ones(1, n_neurons))

  def forward(self, input):
    if len(input.shape) != 2:
      raise Exception('Input has to be 2-dimensional')
    if input.shape[1] != self.size:
      raise Exception('Input has %d neurons instead of %d' % (input.shape[1], self.size))
    return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)
