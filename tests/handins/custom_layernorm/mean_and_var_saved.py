"""
Layer normalisation, once with autograd and once with a backward pass by hand.
"""
import torch
import torch.nn as nn


class CustomLayerNormAutograd(nn.Module):
  """
  Layer normalisation; autograd does the backward pass.
  """

  def __init__(self, n_neurons, eps=1e-5):
    super(CustomLayerNormAutograd, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = nn.Parameter(torch.ones(n_neurons))
    self.beta = nn.Parameter(torch.zeros(n_neurons))

  def forward(self, input):
    if input.dim() != 2 or input.shape[1] != self.n_neurons:
      raise ValueError('input must be (batch, %d) but is %s' % (self.n_neurons, tuple(input.shape)))

    mean = input.mean(dim=1, keepdim=True)
    var = input.var(dim=1, unbiased=False, keepdim=True)
    x_hat = (input - mean) / torch.sqrt(var + self.eps)
    out = self.gamma * x_hat + self.beta
    return out


class CustomLayerNormManualFunction(torch.autograd.Function):
  """
  The same operation with forward and backward written by hand.
  """

  @staticmethod
  def forward(ctx, input, gamma, beta, eps=1e-5):
    mean = input.mean(dim=1, keepdim=True)
    var = input.var(dim=1, unbiased=False, keepdim=True)
    x_hat = (input - mean) / torch.sqrt(var + eps)
    out = gamma * x_hat + beta

    ctx.save_for_backward(input, mean, var, gamma)
    ctx.eps = eps
    return out

  @staticmethod
  def backward(ctx, grad_output):
    input, mean, var, gamma = ctx.saved_tensors
    grad_input = grad_gamma = grad_beta = None
    inv_std = 1 / torch.sqrt(var + ctx.eps)
    x_hat = (input - mean) * inv_std

    if ctx.needs_input_grad[0]:
      g = grad_output * gamma
      grad_input = inv_std * (g - g.mean(dim=1, keepdim=True) - x_hat * (g * x_hat).mean(dim=1, keepdim=True))
    if ctx.needs_input_grad[1]:
      grad_gamma = (grad_output * x_hat).sum(dim=0)
    if ctx.needs_input_grad[2]:
      grad_beta = grad_output.sum(dim=0)

    # no gradient for eps
    return grad_input, grad_gamma, grad_beta, None


class CustomLayerNormManualModule(nn.Module):

  def __init__(self, n_neurons, eps=1e-5):
    super(CustomLayerNormManualModule, self).__init__()
    self.n_neurons = n_neurons
    self.eps = eps
    self.gamma = nn.Parameter(torch.ones(n_neurons))
    self.beta = nn.Parameter(torch.zeros(n_neurons))

  def forward(self, input):
    if input.dim() != 2 or input.shape[1] != self.n_neurons:
      raise ValueError('input must be (batch, %d) but is %s' % (self.n_neurons, tuple(input.shape)))
    return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)


if __name__ == '__main__':
  # compare both, and check the gradient
  x = torch.randn(16, 32) * 3 + 5
  auto, manual = CustomLayerNormAutograd(32), CustomLayerNormManualModule(32)
  print('difference of the outputs:', (auto(x) - manual(x)).abs().max().item())
  args = (torch.randn(4, 6).double(), torch.rand(6).double(), torch.randn(6).double())
  for a in args:
    a.requires_grad = True
  print('gradcheck:', torch.autograd.gradcheck(CustomLayerNormManualFunction.apply, args + (1e-5,)))
