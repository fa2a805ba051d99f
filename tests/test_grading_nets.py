"""Questions 2.1 and 4a on networks as students write them: right ones have full points, faults are named."""

import dataclasses

import handin_table
import numpy as np
import pytest
from grading_networks import (
    BATCH_NORM,
    BLOCKS,
    CIFAR_SHAPE,
    CONV3,
    CONV_LIST,
    CONV_STAGES,
    FLATTEN,
    FLOAT32_ONLY,
    HEAD_OF_CONV,
    IMAGES_ONLY,
    LAST_BLOCKS,
    LAYER_NORM,
    MODULE_LIST,
    MORE_ARGUMENTS,
    OUTPUT_FIRST,
    OWN_LINEAR,
    OWN_PARAMETERS,
    POOL,
    PREACT,
    RETURN,
    SCRIPT,
    both_blocks,
    changed,
)
from grading_quickly import LOSSES, OUTPUT, found

from grading import convnet_rows, networks
from grading.checks import Replies
from grading.inputs import Inputs
from grading.sandbox import Reply

NO_TRAINING = ("training", "convnet_learns")
pytestmark = [pytest.mark.grading, pytest.mark.timeout(900)]
INPUTS = Inputs()


def mlps(files: dict[str, str], loss: str = "") -> dict[str, dict[str, str]]:
    return found(["2.1"], {name: {"mlp_pytorch": text} for name, text in files.items()}, loss)


def convnets(files: dict[str, str], loss: str = "", training: bool = False) -> dict[str, dict[str, str]]:
    hand_ins = {name: {"convnet_pytorch": text} for name, text in files.items()}
    return found(["4a"], hand_ins, loss, *(() if training else NO_TRAINING))


LOG_SOFTMAX = changed(MODULE_LIST, ("return self.out(x)", "return F.log_softmax(self.out(x), dim=1)"))
SOFTMAX = changed(MODULE_LIST, ("return self.out(x)", "return torch.softmax(self.out(x), dim=1)"))


def test_right_mlps_have_full_points():
    right = {"module list": MODULE_LIST, "only 3072": CIFAR_SHAPE, "output first": OUTPUT_FIRST, "images": IMAGES_ONLY,
             "own parameters": OWN_PARAMETERS, "own linear": OWN_LINEAR, "BatchNorm": BATCH_NORM,
             "LayerNorm": LAYER_NORM, "float32": FLOAT32_ONLY, "log-softmax into cross-entropy": LOG_SOFTMAX}
    assert mlps(right) == {name: {} for name in right}


PRODUCT = "x @ self.w[i] + self.b[i]"
PRODUCTS = {  # the same linear layer
    "einsum": "torch.einsum('sm,mn->sn', x, self.w[i]) + self.b[i]", "einsum, weight first": "torch.einsum('mn,sm->sn', self.w[i], x) + self.b[i]",
    "tensordot": "torch.tensordot(x, self.w[i], dims=1) + self.b[i]", "columns": "(self.w[i].t() @ x.t() + self.b[i].t()).t()",
    "inner": "torch.inner(x, self.w[i].T) + self.b[i]", "one sample at a time, in C": "torch.matmul(x.unsqueeze(1), self.w[i]).squeeze(1) + self.b[i]",
    "added to the bias": "torch.addmm(self.b[i], x, self.w[i])", "einsum, columns": "torch.einsum('sm,mn->ns', x, self.w[i]).T + self.b[i]"}


def test_a_linear_layer_may_be_written_as_any_product():
    right = {name: changed(OWN_PARAMETERS, (PRODUCT, product)) for name, product in PRODUCTS.items()}
    assert mlps(right) == {name: {} for name in right}


@pytest.mark.parametrize("loss, text", [("log-probabilities", LOG_SOFTMAX), ("probabilities", SOFTMAX)])
def test_an_mlp_is_judged_with_its_own_loss(loss, text):
    assert mlps({"right": text}, loss) == {"right": {}}
    over_the_batch = changed(text, ("dim=1", "dim=0"))
    wrong = mlps({"logits": MODULE_LIST, "batch": over_the_batch}, loss)
    assert list(wrong["logits"]) == ["mlp_values"] and "Your script" in wrong["logits"]["mlp_values"]
    assert list(wrong["batch"]) == ["mlp_values"] and "over the batch (dim=0)" in wrong["batch"]["mlp_values"]


ACT, LAST, LINEAR = "self.act = nn.ELU()", "return self.out(x)", "x = self.act(layer(x))"
EVERYTHING = {"mlp_no_hidden", "mlp_shape", "mlp_layers", "mlp_parameters", "mlp_values", "mlp_gradients"}
MLP_FAULTS = {  # {name: (network, checks that fail, part of what is said)}
    "softmax": (SOFTMAX, {"mlp_values"}, "loss applies softmax again"),
    "ReLU": (changed(MODULE_LIST, (ACT, "self.act = nn.ReLU()")), {"mlp_values"}, "The activation is ReLU, not ELU"),
    "leaky": (changed(CIFAR_SHAPE, ("nn.ELU()", "nn.LeakyReLU(0.02)")), {"mlp_values"}, "is LeakyReLU, not ELU"),
    "alpha": (changed(MODULE_LIST, (ACT, "self.act = nn.ELU(0.5)")), {"mlp_values"}, "is ELU with alpha 0.5"),
    "SELU": (changed(MODULE_LIST, (ACT, "self.act = nn.SELU()")), {"mlp_values"}, "is SELU, not ELU"),
    "no activation": (changed(MODULE_LIST, (LINEAR, "x = layer(x)")), {"mlp_values"}, "No activation"),
    "one activation missing": (changed(MODULE_LIST, ("        for layer in self.layers:\n            " + LINEAR, (
        "        for i, layer in enumerate(self.layers):\n            x = layer(x) if i == 1 else self.act(layer(x))"))),
        {"mlp_values"}, "No activation after hidden layer 2."),
    "one activation is ReLU": (changed(MODULE_LIST, ("        for layer in self.layers:\n            " + LINEAR, (
        "        for i, layer in enumerate(self.layers):\n            x = F.relu(layer(x)) if i == 2 else self.act(layer(x))"))),
        {"mlp_values"}, "The activation after hidden layer 3 is ReLU, not ELU."),
    "ELU last": (changed(MODULE_LIST, (LAST, "return self.act(self.out(x))")), {"mlp_values"}, "follows the last"),
    "ELU first": (changed(MODULE_LIST, (LINEAR, "x = layer(self.act(x))")), {"mlp_values"}, "ELU is applied to the network's input"),
    "plain list": (changed(MODULE_LIST, ("nn.ModuleList()", "[]")), {"mlp_parameters"}, "not registered"),
    "no bias": (changed(MODULE_LIST, ("n_classes)\n        self", "n_classes, bias=False)\n        self")),
                {"mlp_parameters"}, "Linear layer 2 is without a bias"),
    "n_inputs ignored": (changed(CIFAR_SHAPE, ("layers = []\n", "layers = []\n        n_inputs = 3072\n")),
                         {"mlp_no_hidden", "mlp_layers", "mlp_parameters"}, f"received [[3072, {INPUTS.networks['mlp_0'][-1]}]]"),
    "needs a hidden layer": (changed(MODULE_LIST, ("sizes[-1], n_classes", "n_hidden[-1], n_classes")), {"mlp_no_hidden"},
                             "list index out of range (mlp_pytorch.py, line 14)"),
    "ELU without hidden": (changed(MODULE_LIST, (LAST, "x = self.out(x)\n        return x if self.layers else self.act(x)")),
                           {"mlp_no_hidden"}, "An activation (ELU) follows the last linear layer"),
    "one hidden layer": (changed(MODULE_LIST, ("[n_inputs] + n_hidden", "[n_inputs] + n_hidden[:1]"),
                                 ("len(n_hidden)", "len(n_hidden[:1])")),
                         {"mlp_layers", "mlp_parameters", "mlp_values", "mlp_gradients"}, "wrong linear layers"),
    "detached": (changed(MODULE_LIST, ("layer(x))", "layer(x).detach())")), {"mlp_gradients"}, "receives no gradient"),
    "data": (changed(MODULE_LIST, (LAST, "return self.out(x.data)")), {"mlp_gradients"}, "receives no gradient"),
    "class numbers": (changed(MODULE_LIST, (LAST, "return self.out(x).argmax(1)")),
                      {"mlp_shape", "mlp_values", "mlp_gradients"}, f"output's shape must be ({INPUTS.samples}, {INPUTS.networks['mlp_1'][-1]})"),
    "sizes": (changed(MODULE_LIST, ("sizes[-1], n_classes", "sizes[-1] + 1, n_classes")),
              EVERYTHING, "mlp_pytorch.py, line 20"),
    "returns nothing": (changed(MODULE_LIST, (LAST, "x = self.out(x)")),
                        EVERYTHING, "MLP.forward returns None: the return is missing."),
    "returns a pair": (changed(MODULE_LIST, (LAST, "return self.out(x), x")),
                       EVERYTHING, "MLP.forward returns tuple, not a tensor"),
}


@pytest.fixture(scope="module")
def faulty_mlps():
    return mlps({name: text for name, (text, *_) in MLP_FAULTS.items()})


@pytest.mark.parametrize("name", MLP_FAULTS)
def test_a_fault_of_an_mlp_is_named_and_costs_its_own_checks(faulty_mlps, name):
    _, checks, said = MLP_FAULTS[name]
    assert set(faulty_mlps[name]) == checks
    assert any(said in text for text in faulty_mlps[name].values()), faulty_mlps[name]


def test_what_follows_from_wrong_layers_costs_nothing_more(faulty_mlps):
    """Of layers that do not fit each other, and of one too few; not of a network that returns nothing at all."""
    alder, follows = handin_table.source("alder", "mlp_pytorch.py"), "[follows from mlp_layers]"
    wrong = mlps({"no chain": changed(alder, ("      n_inputs = units\n", "")),
                  "one dropped": changed(alder, ("in n_hidden:", "in n_hidden[:-1]:")),
                  "detached": changed(alder, ("self.layers(x)", "self.layers(x).detach()"))})
    after = {name: {check for check, text in found.items() if text.endswith(follows)} for name, found in wrong.items()}
    assert after["no chain"] == {"mlp_shape", "mlp_parameters", "mlp_gradients"}
    assert after["one dropped"] == {"mlp_parameters", "mlp_gradients"}
    assert set(wrong["no chain"]) - after["no chain"] == {"mlp_layers", "mlp_values"}
    assert set(wrong["one dropped"]) - after["one dropped"] == {"mlp_layers", "mlp_values"}
    assert list(wrong["detached"]) == ["mlp_gradients"]
    others = [*wrong["detached"].values(), *faulty_mlps["plain list"].values(), *faulty_mlps["returns nothing"].values()]
    assert not any(text.endswith(follows) for text in others)  # a cause of what fails in training stays one


def test_a_constructor_is_called_as_the_script_calls_it():
    call = "mlp_pytorch.MLP(3 * 32 * 32, hidden, 10, dropout=FLAGS.dropout, activation='elu')"
    script = SCRIPT.replace("{module}", "mlp_pytorch").replace("{call}", call)
    relu = changed(script, ("'elu')", "'relu')"))
    hand_ins = {name: {"mlp_pytorch": MORE_ARGUMENTS} | ({"train_mlp_pytorch": text} if text else {})
                for name, text in {"right": script, "ReLU": relu, "no script": ""}.items()}
    wrong = found(["2.1"], hand_ins)
    assert not wrong["right"]
    assert "The activation is ReLU" in wrong["ReLU"]["mlp_values"]
    assert "missing 1 required positional argument: 'dropout'" in wrong["no script"]["mlp_shape"]
    width = changed(CONV_LIST, ("n_channels, n_classes)", "n_channels, n_classes, width)"), ("64", "width"))
    script = SCRIPT.replace("{module}", "convnet_pytorch").replace("{call}", "convnet_pytorch.ConvNet(3, 10, 64)")
    hand_in = {"convnet_pytorch": width, "train_convnet_pytorch": script}
    assert found(["4a"], {"right": hand_in}, "", *NO_TRAINING) == {"right": {}}


def test_a_loss_is_read_from_its_gradient():
    """Also where an output is not a probability at all, as of an untrained network."""
    for wanted, gradient in LOSSES.items():
        replies = Replies(script=Reply({"output": OUTPUT, "output gradient": 7 * gradient}))
        assert networks.reading(replies) == wanted
        with_infinity = Reply({"output": np.vstack([OUTPUT, [0, 0, 0]]),
                               "output gradient": np.vstack([gradient, [-np.inf, 0, 0]])})
        assert networks.reading(Replies(script=Reply({}, error="no"), script_default=with_infinity)) == wanted
    softmax = np.exp(OUTPUT) / np.exp(OUTPUT).sum(axis=1, keepdims=True)
    for gradient in (softmax - [[0, 1, 0], [1, 0, 0]], 0 * OUTPUT, OUTPUT):
        assert networks.reading(Replies(script=Reply({"output": OUTPUT, "output gradient": gradient}))) == "logits"
    assert networks.reading(Replies()) == "logits"


@pytest.mark.parametrize("probabilities", [[0.1] * 6, [0.1 + 1e-8, 0.1, 0.1 - 2e-8, 0.1, 0.1, 0.1],
                                           [0.3, 1e-13, 0.2, 0.0, 0.9, 1e-9], [1e-12, 1e-10, 0.0, 1e-11, 1e-13, 0.5]])
@pytest.mark.parametrize("scale", [1, 1 / 6])
def test_a_loss_of_probabilities_is_read_whatever_these_are(probabilities, scale):
    """Those of an untrained network are all alike; those of the grader's weights may be 0, below what guards the log."""
    output = np.full((6, 3), 0.05)
    output[:, 1] = probabilities

    def read(gradient):
        array = np.zeros((6, 3))
        array[:, 1] = -scale * gradient
        return networks.reading(Replies(script=Reply({"output": output, "output gradient": array})))

    assert read(1 / (output[:, 1] + 1e-10)) == "probabilities"
    assert read(np.where(output[:, 1] < 1e-8, 0, 1 / np.maximum(output[:, 1], 1e-8))) == "probabilities"  # clamped
    assert read(np.ones(6)) == "log-probabilities"  # the logarithm is forgotten


CONV_LOG = changed(CONV_LIST, (RETURN, RETURN.replace("return x", "return F.log_softmax(x, dim=1)")))
CONV_SOFTMAX = changed(CONV_LIST, (RETURN, RETURN.replace("return x", "return F.softmax(x, dim=1)")))


def test_right_convnets_have_full_points():
    right = {
        "list": CONV_LIST, "stages": CONV_STAGES, "torch.add": changed(CONV_LIST, ("z + x", "torch.add(x, z)")),
        "sum": changed(CONV_LIST, ("z + x", "sum([x, z])")), "in place": changed(CONV_LIST, ("ReLU()", "ReLU(True)")),
        "stack": changed(CONV_LIST, ("return z + x", "return torch.stack([x, z]).sum(0)")),
        "BatchNorm1d": changed(CONV_LIST, (HEAD_OF_CONV + "            nn.Flatten(),",
                                           "            nn.Flatten(), nn.BatchNorm1d(512), nn.ReLU(),")),
        "squeeze": changed(CONV_STAGES, (FLATTEN, "x = x.squeeze()")), "log-softmax": CONV_LOG,
        "a convolution instead of the linear layer": changed(CONV_LIST, (
            "nn.Flatten(),", "nn.Conv2d(512, n_classes, 1), nn.Flatten(),"), ("nn.Linear(512, n_classes)", "nn.Identity()")),
        "mean": changed(CONV_STAGES, (FLATTEN, "x = x.mean(dim=[2, 3])")),
        "clamp": changed(CONV_STAGES, ("F.relu(self.bn(inputs))", "self.bn(inputs).clamp(min=0)"))}
    assert convnets(right) == {name: {} for name in right}


@pytest.mark.parametrize("loss, text", [("log-probabilities", CONV_LOG), ("probabilities", CONV_SOFTMAX)])
def test_a_convnet_is_judged_with_its_own_loss(loss, text):
    found = convnets({"right": text, "logits": CONV_LIST}, loss, training=True)
    assert not found["right"]
    assert list(found["logits"]) == ["convnet_values"] and "Your script" in found["logits"]["convnet_values"]


ALL_BLOCKS = "the 9 PreAct blocks"
LAYERS, SKIPS, NUMBER = "convnet_layers", "convnet_skips", "convnet_parameters"
CONV_FAULTS = {  # {name: (network, checks that fail beside the values, what is said)}
    "softmax": (CONV_SOFTMAX, set(), "loss applies softmax again"),
    "missing block": (changed(CONV_LIST, (BLOCKS, BLOCKS[:len(BLOCKS) // 2])), {LAYERS, NUMBER}, "PreAct2_a: it is missing."),
    "missing last block": (changed(CONV_LIST, (LAST_BLOCKS, LAST_BLOCKS[LAST_BLOCKS.index("\n") + 1:])), {LAYERS, NUMBER},
                           "PreAct5_a: it is missing."),
    "parallel": (both_blocks("self.a(x) + self.b(x)"), {LAYERS}, "PreAct2_b: it takes the output of maxpool1, so that it "
                 "runs beside PreAct2_a"),
    "parallel inside": (both_blocks("x + self.a.layers(x) + self.b.layers(x)"), {LAYERS}, "it runs beside PreAct2_a"),
    "around two": (both_blocks("x + self.b.layers(self.a.layers(x))"), {SKIPS},
                   "One skip connection around PreAct2_a to PreAct2_b, where each has its own"),
    "no skips": (changed(CONV_LIST, ("return z + x", "return z")), {SKIPS}, f"No skip connection around {ALL_BLOCKS}."),
    "one skip": (both_blocks("self.b.layers(self.a(x))"), {SKIPS}, "No skip connection around PreAct2_b."),
    "skip taken back": (both_blocks("(lambda y: self.b(y) - y)(self.a(x))"), {SKIPS}, "around PreAct2_b that reaches the next"),
    "skip starts late": (changed(CONV_STAGES, ("out = F.relu", "inputs = out = F.relu")), {SKIPS},
                         f"The skip connection around {ALL_BLOCKS} starts after BatchNorm and ReLU"),
    "skip starts after BatchNorm": (changed(CONV_STAGES, ("out = F.relu(self.bn(inputs))", (
        "inputs = self.bn(inputs)\n        out = F.relu(inputs)"))), {SKIPS},
                                    f"The skip connection around {ALL_BLOCKS} starts after BatchNorm, not before"),
    "skip starts after the convolution": (changed(CONV_LIST, ("return z + x", "return z + z")), {SKIPS},
                                          f"The skip connection around {ALL_BLOCKS} starts after its convolution"),
    "block twice": (both_blocks("self.a(self.a(x))"), {LAYERS}, "PreAct2_b: it uses parameters of PreAct2_a again"),
    "BatchNorm twice": (both_blocks("self.b(self.a(x))").replace("    def forward(self, x):\n        return self.b", (
        "        self.b.layers[0] = self.a.layers[0]\n    def forward(self, x):\n        return self.b")),
        {LAYERS, NUMBER}, "PreAct2_b: it uses parameters of PreAct2_a again"),
    "conv, BatchNorm, ReLU": (changed(CONV_LIST, (PREACT, f"{CONV3}, nn.BatchNorm2d(n_in), nn.ReLU()")), {LAYERS},
                              f"{ALL_BLOCKS}: expected BatchNorm, ReLU, convolution; received convolution, BatchNorm, "),
    "BatchNorm, conv, ReLU": (changed(CONV_LIST, (PREACT, f"nn.BatchNorm2d(n_in), {CONV3}, nn.ReLU()")), {LAYERS},
                              f"{ALL_BLOCKS}: expected BatchNorm, ReLU, convolution; received BatchNorm, convolution, "),
    "ReLU, BatchNorm, conv": (changed(CONV_LIST, (PREACT, f"nn.ReLU(), nn.BatchNorm2d(n_in), {CONV3}")), {LAYERS},
                              "received ReLU, BatchNorm, convolution."),
    "ReLU after the sum": (changed(CONV_LIST, ("return z + x", "return F.relu(z + x)")), {LAYERS},
                           "conv1, conv2, conv3: expected convolution; received ReLU, convolution."),
    "ReLU after conv0": (changed(CONV_STAGES, ("x = self.block1(x)", "x = self.block1(F.relu(x))")), {LAYERS},
                         "PreAct1: expected nothing before it; received ReLU."),
    "no last BatchNorm": (changed(CONV_LIST, ("            nn.BatchNorm2d(512),\n", "")), {LAYERS, NUMBER},
                          "linear: expected BatchNorm, ReLU, linear; received ReLU, linear."),
    "no last ReLU": (changed(CONV_LIST, ("            nn.ReLU(),\n", "")), {LAYERS},
                     "linear: expected BatchNorm, ReLU, linear; received BatchNorm, linear."),
    "kernel": (changed(CONV_LIST, ("nn.Conv2d(128, 256, 1, 1, 0)", "nn.Conv2d(128, 256, 3, 1, 1)")), {LAYERS, NUMBER},
               "kernel 1x1, stride 1x1, padding 0x0; received convolution 128 -> 256, kernel 3x3, stride 1x1, padding 1x1."),
    "stride": (changed(CONV_LIST, ("3, 1, 1),\n            PreAct(64", "3, 2, 1),\n            PreAct(64")), {LAYERS},
               "conv0: expected convolution 3 -> 64, kernel 3x3, stride 1x1, padding 1x1; received convolution 3 -> 64, "
               "kernel 3x3, stride 2x2"),
    "small pools": (changed(CONV_LIST, (POOL, "nn.MaxPool2d(2)")), {LAYERS}, "maxpool1, maxpool2, maxpool3, maxpool4, "
                    "maxpool5: expected max pool, kernel 3x3, stride 2x2, padding 1x1; received max pool, kernel 2x2"),
    "average pools": (changed(CONV_LIST, (POOL, "nn.AvgPool2d(3, 2, 1)")), {LAYERS}, "received average pool, kernel 3x3"),
    "global average": (changed(CONV_STAGES, ("x = F.max_pool2d(x, 3, 2, 1)\n", "x = x.mean((2, 3), keepdim=True)\n")),
                       {LAYERS}, "maxpool5: expected max pool, kernel 3x3, stride 2x2, padding 1x1; received average pool."),
    "channels": (changed(CONV_LIST, ("nn.Conv2d(64, 128,", "nn.Conv2d(64, 96,"), ("nn.Conv2d(128, 256", "nn.Conv2d(96, 256"),
                         (BLOCKS, BLOCKS.replace("128", "96"))), {LAYERS, NUMBER}, "received convolution 64 -> 96"),
    "one more convolution": (changed(CONV_LIST, ("            nn.Flatten(),", "            nn.Conv2d(512, 512, 1), nn.Flatten(),")),
                             {LAYERS, NUMBER}, "convolution 512 -> 512, kernel 1x1, stride 1x1, padding 0x0, which the table "
                             "does not have"),
}


@pytest.fixture(scope="module")
def faulty_convnets():
    return convnets({name: text for name, (text, *_) in CONV_FAULTS.items()})


@pytest.mark.slow
@pytest.mark.parametrize("name", CONV_FAULTS)
def test_a_fault_of_a_convnet_is_named_and_costs_its_own_checks(faulty_convnets, name):
    _, checks, said = CONV_FAULTS[name]
    assert set(faulty_convnets[name]) == checks | {"convnet_values"}, faulty_convnets[name]
    text = " ".join(faulty_convnets[name].values())
    assert said in text, text
    assert checks != {SKIPS} or f"[follows from {SKIPS}]" in faulty_convnets[name]["convnet_values"]


def test_a_convnet_with_fixed_sizes_is_right_but_for_them():
    fixed = convnets({"classes": changed(CONV_LIST, ("nn.Linear(512, n_classes)", "nn.Linear(512, 10)")),
                      "channels": changed(CONV_LIST, ("nn.Conv2d(n_channels", "nn.Conv2d(3"))})
    assert [list(failures) for failures in fixed.values()] == [["convnet_sizes"], ["convnet_sizes"]]
    assert "use n_classes" in fixed["classes"]["convnet_sizes"]
    images, channels, _ = INPUTS.other_sizes
    assert f"expected input[{images}, {channels}, 32, 32] to have 3 channels" in fixed["channels"]["convnet_sizes"]


def test_a_convnet_or_a_block_that_returns_nothing_is_named():
    failed = convnets({"network": changed(CONV_STAGES, ("return self.linear(x)", "self.linear(x)")),
                       "block": changed(CONV_LIST, ("return z + x", "z + x"))}, training=True)
    assert failed["network"].keys() == {"convnet_sizes", "convnet_values", "convnet_learns"}
    assert failed["block"].keys() == {"convnet_sizes", LAYERS, "convnet_values", "convnet_learns"}
    for name, function in (("network", "ConvNet"), ("block", "PreAct")):
        assert all(f"{function}.forward returns None: the return is missing." in text and "Error" not in text
                   for text in failed[name].values()), failed[name]


def test_a_convnet_whose_output_does_not_depend_on_the_image_does_not_learn():
    zeroed = changed(CONV_STAGES, ("return self.linear(x)", "return self.linear(0 * x)"))
    assert "The loss does not fall" in convnets({"zeroed": zeroed}, training=True)["zeroed"]["convnet_learns"]


def test_rows_are_aligned_and_not_compared_by_position():
    rows = convnet_rows.table()
    layers = [convnet_rows.Layer(row.kind, row.weight, row.geometry, [-1], skip=row.skip) for row in rows]
    assert [place for _, place in convnet_rows.align(rows, layers)] == list(range(19))
    missing = [row.name for row, place in convnet_rows.align(rows, layers[:7] + layers[8:]) if place is None]
    assert missing == ["maxpool2"]
    more = convnet_rows.align(rows, [*layers[:3], dataclasses.replace(layers[0]), *layers[3:]])
    assert [place for row, place in more if row is None] == [3]
    assert all(place is None for _, place in convnet_rows.align(rows, []))


def test_what_a_worker_cannot_have_recorded_is_refused():
    node = ["ReLU", [0], -1, [], [], [], [], [1], [1]]
    with pytest.raises(ValueError, match="what comes after them"):
        convnet_rows.Reading([node])
