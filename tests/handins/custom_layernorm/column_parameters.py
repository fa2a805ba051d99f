import torch
from torch import nn
from torch.autograd import Function


def check_shape(module, x):
    if len(x.shape) != 2 or x.shape[1] != module.gamma.shape[0]:
        raise RuntimeError("shape of the input is %s, but there are %d neurons"
                           % (list(x.shape), module.gamma.shape[0]))


class CustomLayerNormAutograd(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super(CustomLayerNormAutograd, self).__init__()
        self.eps = eps
        # columns
        self.gamma = nn.Parameter(torch.ones(n_neurons, 1))
        self.beta = nn.Parameter(torch.zeros(n_neurons, 1))

    def forward(self, input):
        check_shape(self, input)
        # work on the transpose: every sample is a column
        x = input.t()
        mu = x.mean(0)
        var = ((x - mu) ** 2).mean(0)
        x_hat = (x - mu) / (var + self.eps) ** 0.5
        return (self.gamma * x_hat + self.beta).t()


class CustomLayerNormManualFunction(Function):
    @staticmethod
    def forward(ctx, input, gamma, beta, eps=1e-5):
        ctx.eps = eps
        mu = torch.mean(input, 1, True)
        var = torch.var(input, 1, False, True)
        ctx.save_for_backward(input, gamma, mu, var)
        return (input - mu) / torch.sqrt(var + eps) * gamma + beta

    @staticmethod
    def backward(ctx, grad_output):
        input, gamma, mu, var = ctx.saved_tensors
        std = torch.sqrt(var + ctx.eps)
        d_input = None
        d_gamma = None
        d_beta = None

        if ctx.needs_input_grad[0]:
            M = input.shape[1]
            dxhat = grad_output * gamma
            # chain rule over variance and mean, step by step
            dvar = (dxhat * (input - mu) * (-0.5) * std ** (-3)).sum(1, keepdim=True)
            dmu = (-dxhat / std).sum(1, keepdim=True) + dvar * (-2 / M) * (input - mu).sum(1, keepdim=True)
            d_input = dxhat / std + dvar * 2 / M * (input - mu) + dmu / M
        if ctx.needs_input_grad[1]:
            d_gamma = torch.sum(grad_output * (input - mu) / std, 0)
        if ctx.needs_input_grad[2]:
            d_beta = torch.sum(grad_output, 0)
        return d_input, d_gamma, d_beta, None


class CustomLayerNormManualModule(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super(CustomLayerNormManualModule, self).__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(n_neurons, 1))
        self.beta = nn.Parameter(torch.zeros(n_neurons, 1))

    def forward(self, input):
        check_shape(self, input)
        return CustomLayerNormManualFunction.apply(input, self.gamma.flatten(), self.beta.flatten(), self.eps)
