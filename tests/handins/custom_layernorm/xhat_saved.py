import torch
import torch.nn as nn


class CustomLayerNormAutograd(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons), requires_grad=True)
        self.beta = nn.Parameter(torch.zeros(n_neurons), requires_grad=True)

    def forward(self, input):
        assert len(input.size()) == 2, "expected 2 dimensions"
        assert input.size(1) == self.n_neurons, "wrong number of neurons"
        mu = torch.mean(input, dim=1).unsqueeze(1)
        sigma2 = torch.var(input, dim=1, unbiased=False).unsqueeze(1)
        x_hat = (input - mu) * torch.rsqrt(sigma2 + self.eps)
        return x_hat * self.gamma + self.beta


class CustomLayerNormManualFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, gamma, beta, eps=1e-5):
        mu = torch.mean(input, dim=1).unsqueeze(1)
        sigma2 = torch.var(input, dim=1, unbiased=False).unsqueeze(1)
        inv_std = torch.rsqrt(sigma2 + eps)
        x_hat = (input - mu) * inv_std
        # the input itself is not needed any more
        ctx.save_for_backward(x_hat, inv_std, gamma)
        return x_hat * gamma + beta

    @staticmethod
    def backward(ctx, grad_output):
        x_hat, inv_std, gamma = ctx.saved_tensors
        M = x_hat.shape[1]

        dgamma = (grad_output * x_hat).sum(0) if ctx.needs_input_grad[1] else None
        dbeta = grad_output.sum(0) if ctx.needs_input_grad[2] else None
        dx = None
        if ctx.needs_input_grad[0]:
            dx_hat = grad_output * gamma
            sum1 = dx_hat.sum(1, keepdim=True)
            sum2 = (dx_hat * x_hat).sum(1, keepdim=True)
            dx = inv_std / M * (M * dx_hat - sum1 - x_hat * sum2)
        return dx, dgamma, dbeta, None


class CustomLayerNormManualModule(nn.Module):
    def __init__(self, n_neurons, eps=1e-5):
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons), requires_grad=True)
        self.beta = nn.Parameter(torch.zeros(n_neurons), requires_grad=True)

    def forward(self, input):
        assert len(input.size()) == 2, "expected 2 dimensions"
        assert input.size(1) == self.n_neurons, "wrong number of neurons"
        layer_norm = CustomLayerNormManualFunction.apply
        return layer_norm(input, self.gamma, self.beta, self.eps)
