import torch
import torch.nn as nn
import torch.nn.functional as F


class PreActBlock(nn.Module):
    def __init__(self, n):
        super(PreActBlock, self).__init__()
        self.bn = nn.BatchNorm2d(n)
        self.conv = nn.Conv2d(n, n, 3, 1, 1)

    def forward(self, x):
        out = self.conv(F.relu(self.bn(x)))
        return out + x


class ConvNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super(ConvNet, self).__init__()
        self.conv0 = nn.Conv2d(n_channels, 64, 3, padding=1)
        self.PreAct1 = PreActBlock(64)
        self.conv1 = nn.Conv2d(64, 128, 1)
        self.PreAct2_a = PreActBlock(128)
        self.PreAct2_b = PreActBlock(128)
        self.conv2 = nn.Conv2d(128, 256, 1)
        self.PreAct3_a = PreActBlock(256)
        self.PreAct3_b = PreActBlock(256)
        self.conv3 = nn.Conv2d(256, 512, 1)
        self.PreAct4_a = PreActBlock(512)
        self.PreAct4_b = PreActBlock(512)
        self.PreAct5_a = PreActBlock(512)
        self.PreAct5_b = PreActBlock(512)
        self.bn_last = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, n_classes)

    def maxpool(self, x):
        return F.max_pool2d(x, 3, stride=2, padding=1)

    def forward(self, x):
        x = self.PreAct1(self.conv0(x))
        x = self.maxpool(self.conv1(x))              # 16 x 16
        x = self.PreAct2_b(self.PreAct2_a(x))
        x = self.maxpool(self.conv2(x))              # 8 x 8
        x = self.PreAct3_b(self.PreAct3_a(x))
        x = self.maxpool(self.conv3(x))              # 4 x 4
        x = self.PreAct4_b(self.PreAct4_a(x))
        x = self.maxpool(x)                          # 2 x 2
        x = self.PreAct5_b(self.PreAct5_a(x))
        x = self.maxpool(x)                          # 1 x 1
        x = F.relu(self.bn_last(x)).squeeze(3).squeeze(2)
        return self.linear(x)
