"""
Custom layer normalisation (question 3)
"""
import torch
import torch.nn as nn

######################################################################################
# Code for Question 3.1
######################################################################################


class CustomLayerNormAutograd(nn.Module):
  """
  n_neurons: int specifying the number of neurons
  eps: small float to be added to the variance for stability
  """

  def __init__(self, n_neurons, eps=1e-5):
    super(CustomLayerNormAutograd, self).__init__()
    self.register_parameter('gamma', nn.Parameter(torch.ones(n_neurons)))
    self.register_parameter('beta', nn.Parameter(torch.zeros(n_neurons)))
    self.eps = eps

  def forward(self, input):
    n_neurons = len(self.gamma)
    if input.ndim != 2:
      raise ValueError("Need a 2D tensor, got %dD" % input.ndim)
    elif input.size()[-1] != n_neurons:
      raise ValueError("Need %d features, got %d" % (n_neurons, input.size()[-1]))
    M = input.size()[1]
    mean = torch.sum(input, 1, keepdim=True) / M
    var = torch.sum((input - mean).pow(2), 1, keepdim=True) / M
    normalized = (input - mean) / torch.sqrt(var + self.eps)
    out = self.gamma.unsqueeze(0) * normalized + self.beta.unsqueeze(0)
    return out

######################################################################################
# Code for Question 3.2 b)
######################################################################################


class CustomLayerNormManualFunction(torch.autograd.Function):

  @staticmethod
  def forward(ctx, input, gamma, beta, eps=1e-5):
    M = input.size()[1]
    mean = torch.sum(input, 1, keepdim=True) / M
    var = torch.sum((input - mean).pow(2), 1, keepdim=True) / M
    istd = 1. / torch.sqrt(var + eps)
    normalized = (input - mean) * istd
    ctx.save_for_backward(normalized, gamma, istd)
    return gamma * normalized + beta

  @staticmethod
  def backward(ctx, grad_output):
    normalized, gamma, istd = ctx.saved_tensors
    S, M = normalized.size()
    grads = [None] * 4

    if ctx.needs_input_grad[0]:
      # the jacobian of every sample: (I - 1/M - x_hat x_hat^T / M) / std
      eye = torch.eye(M, dtype=normalized.dtype, device=normalized.device)
      outer = normalized.unsqueeze(2) * normalized.unsqueeze(1)
      jacobian = (eye - 1. / M - outer / M) * istd.unsqueeze(2)
      grads[0] = torch.bmm((grad_output * gamma).unsqueeze(1), jacobian).squeeze(1)
    if ctx.needs_input_grad[1]:
      grads[1] = (normalized * grad_output).sum(dim=0)
    if ctx.needs_input_grad[2]:
      grads[2] = torch.ones(S, dtype=grad_output.dtype, device=grad_output.device) @ grad_output
    return tuple(grads)

######################################################################################
# Code for Question 3.2 c)
######################################################################################


class CustomLayerNormManualModule(CustomLayerNormAutograd):
  """
  The parameters and eps are made by the other class
  """

  def forward(self, input):
    if input.ndim != 2 or input.size()[-1] != len(self.gamma):
      raise ValueError("Need (n_batch, %d), got %s" % (len(self.gamma), str(input.size())))
    return CustomLayerNormManualFunction.apply(input, self.gamma, self.beta, self.eps)
