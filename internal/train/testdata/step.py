"""Takes training steps of ResNet-20 with PyTorch, one for each line of input.

Prints "ready VERSION", then after each step its seconds and the process's peak
memory in KiB. Run by TestBenchTorch of thriftc/train.
"""
import resource
import sys
import time

import torch
from torch import nn

batch, threads = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)


def conv_norm(i, o, k, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o))


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = conv_norm(i, o, 3, stride)
        self.conv2 = conv_norm(o, o, 3)
        self.shortcut = conv_norm(i, o, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.conv2(torch.relu_(self.conv1(x)))
        return torch.relu_(y + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [conv_norm(3, 16, 3), nn.ReLU(inplace=True)]
        i = 16
        for stage, o in enumerate((16, 32, 64)):
            for k in range(3):
                layers.append(Block(i, o, 2 if stage > 0 and k == 0 else 1))
                i = o
        self.features = nn.Sequential(*layers)
        self.logits = nn.Linear(64, 10)

    def forward(self, x):
        return self.logits(self.features(x).mean((2, 3)))


net = ResNet20().to(memory_format=torch.channels_last)
loss_of = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
target = torch.arange(batch) % 10
print("ready", torch.__version__, sum(p.numel() for p in net.parameters()), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss_of(net(x), target).backward()
    optimizer.step()
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
