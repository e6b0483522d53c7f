"""YOLOv3 for Darknet: the cfg file, and a weight file with random numbers."""

import numpy as np

from lts_jax.pretrained.layout import Network, yolo_tail

TINY = Network(width=4, stages=(1, 1, 1, 1, 1), neck=True)
MINI = TINY._replace(width=1)  # for tests with thousands of files


def cfg(network, size, outputs=255):
    """Returns YOLOv3's cfg file, and the names of OpenCV's layers at strides 8, 16 and 32."""
    lines = [f"[net]\nwidth={size[1]}\nheight={size[0]}\nchannels=3\n"]
    taps = {}

    def add(text):
        lines.append(text)
        return len(lines) - 2

    def conv(filters, kernel, stride=1):
        return add(
            f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={kernel}\n"
            f"stride={stride}\npad=1\nactivation=leaky\n"
        )

    def head(mask):
        add(f"[convolutional]\nsize=1\nstride=1\npad=1\nfilters={outputs}\nactivation=linear\n")
        add(
            f"[yolo]\nmask={mask}\nanchors=10,13,16,30,33,23,30,61,62,45,59,119,116,90,156,198,"
            f"373,326\nclasses={outputs // 3 - 5}\nnum=9\njitter=.3\nignore_thresh=.7\n"
        )

    width = network.width
    conv(width, 3)
    stages = []
    for i, blocks in enumerate(network.stages, start=1):
        last = conv(width * 2**i, 3, 2)
        for _ in range(blocks):
            conv(width * 2 ** (i - 1), 1)
            conv(width * 2**i, 3)
            last = add("[shortcut]\nfrom=-3\nactivation=linear\n")
        stages.append(last)
    taps["stride8"], taps["stride16"] = (f"shortcut_{stages[i]}" for i in (2, 3))
    taps["plain32"] = f"shortcut_{stages[4]}"
    c = 32 * width
    for branch, mask in enumerate(("6,7,8", "3,4,5", "0,1,2")):
        for _ in range(3):
            conv(c // 2, 1)
            last = conv(c, 3)
        if branch == 0:
            taps["stride32"] = f"leaky_{last + 1}"
        head(mask)
        if branch < 2:
            c //= 2
            add("[route]\nlayers=-4\n")
            conv(c // 2, 1)
            add("[upsample]\nstride=2\n")
            add(f"[route]\nlayers=-1,{stages[3 - branch]}\n")
    return "\n".join(lines), taps


def all_convs(network, outputs=255):
    return network._replace(neck=True).convs + yolo_tail(network.width, outputs)


def draw(convs, seed=0, low=0.5, high=2.0):
    """Draws the arrays of each convolution, in Darknet's order.

    The statistics approximate those of the layer's inputs, as after training. `power` is the mean
    square of the features; `low` and `high` bound the scale of the weights.
    """
    rng = np.random.default_rng(seed)
    result, power, before = {}, 1 / 3, 0.0
    for conv in convs:
        n, fan_in = conv.outputs, conv.inputs * conv.kernel**2
        size = np.exp(rng.uniform(np.log(low), np.log(high), n)) / fan_in**0.5
        weights = rng.standard_normal(conv.shape, np.float32) * size[:, None, None, None]
        if conv.path.startswith("head"):
            arrays = {"bias": rng.normal(0, 0.1, n)}
        else:
            var = fan_in * size**2 * power * np.exp(rng.normal(0, 0.3, n))
            arrays = {
                "bias": rng.normal(0, 0.3, n),
                "scale": rng.uniform(0.3, 1.2, n),
                "mean": rng.normal(0, 0.5, n) * var**0.5,
                "var": var,
            }
            out = 0.505 * np.mean(arrays["scale"] ** 2 + arrays["bias"] ** 2)
            if conv.path.endswith("ConvNormAct_0"):
                before = power
            power = out + (before if conv.path.endswith("ConvNormAct_1") else 0)
        arrays["weights"] = weights
        result[conv.path] = {k: v.astype(np.float32) for k, v in arrays.items()}
    return result


def numbers(arrays):
    return np.concatenate([x.ravel() for of_conv in arrays.values() for x in of_conv.values()])
