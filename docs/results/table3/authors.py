"""Runs blocks of the code that CMPC's authors published, for tests/lts_jax/models/cmpc/authors.npz.

    git clone https://github.com/spyflying/CMPC-Refseg
    pip install "tensorflow-cpu<2.19" "tf-keras<2.19"  # in an environment of its own
    python docs/results/table3/authors.py CMPC-Refseg authors.npz

The code is for TensorFlow 1.5. Here it runs in TensorFlow 2's `compat.v1`, which has all of it but
`tf.contrib`, whose layer_norm and initializer are replaced below. All weights are random.
"""

import os
import sys
import types

import numpy as np

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow

H, W, C, Q, T = 4, 4, 6, 5, 4
LEVELS = ("c3", "c4", "c5")
tf = tensorflow.compat.v1
tf.disable_v2_behavior()


def layer_norm(x, scope=None):
    """tf.contrib.layers.layer_norm: one mean and variance of all but the batch."""
    with tf.variable_scope(scope, default_name="LayerNorm"):
        beta, gamma = (tf.get_variable(name, [x.shape[-1]]) for name in ("beta", "gamma"))
        mean, variance = tf.nn.moments(x, list(range(1, len(x.shape))), keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)


def import_authors(folder):
    """Imports CMPC_model.py; what it imports for data and for the backbone is not needed."""
    v1 = types.ModuleType("tensorflow")
    v1.__dict__.update({name: getattr(tf, name) for name in dir(tf)})
    v1.contrib = types.SimpleNamespace(
        layers=types.SimpleNamespace(
            layer_norm=layer_norm, xavier_initializer_conv2d=tf.glorot_uniform_initializer
        )
    )
    sys.modules["tensorflow"] = v1
    sys.path.insert(0, folder)
    import util

    for name in ("data_reader", "im_processing", "text_processing", "eval_tools"):
        sys.modules[f"util.{name}"] = types.ModuleType(name)
        setattr(util, name, sys.modules[f"util.{name}"])
    for name in ("deeplab_resnet", "deeplab_resnet.model"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["deeplab_resnet"].model = sys.modules["deeplab_resnet.model"]
    import CMPC_model

    return CMPC_model


def unit(x):
    """Divides by the norm of the last axis."""
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def main():
    """Draws weights and inputs, and writes them with what each block makes of them."""
    authors = import_authors(sys.argv[1])
    rng = np.random.default_rng(0)
    network = authors.LSTM_model.__new__(authors.LSTM_model)
    sizes = {"batch_size": 1, "num_steps": T, "vf_h": H, "vf_w": W, "mlp_dim": Q}
    sizes |= {"rnn_size": C, "v_emb_dim": C, "valid_idx": np.zeros((1, 1), np.int32)}
    vars(network).update(sizes)
    inputs = {"words": unit(rng.normal(size=(1, 1, T, C)))}
    inputs |= {"vectors": rng.normal(size=(1, T, 3)).astype(np.float32)}
    for i in range(3):
        inputs[f"visual{i}"] = unit(rng.normal(size=(1, H, W, C)))
        inputs[f"map{i}"] = rng.normal(size=(1, H, W, Q)).astype(np.float32)
    fed = {name: tf.placeholder(tf.float32, value.shape) for name, value in inputs.items()}
    words = fed["words"]
    where = tf.convert_to_tensor(authors.generate_spatial_batch(1, H, W))
    outputs = {"coordinates": where, "types": network.build_lang_parser(words)}
    fused = [
        network.build_lang2vis(fed[f"visual{i}"], words, None, outputs["types"], where, level=name)
        for i, name in enumerate(LEVELS)
    ]
    outputs["necessary"] = network.nec_lang(outputs["types"], words)
    for i, name in enumerate(LEVELS):
        outputs[f"fused{i}"] = fused[i]
        outputs[f"score{i}"] = network._conv(f"score_{name}", fused[i], 3, Q, 1, [1, 1, 1, 1])
        others = [x for j, x in enumerate(fused) if j != i]
        module = network.gated_exchange_module
        outputs[f"exchanged{i}"] = module(fused[i], *others, outputs["necessary"], name)
    cell = authors.ConvLSTMCell([H, W], Q, [1, 1])
    state = tf.nn.rnn_cell.LSTMStateTuple(tf.zeros([1, H, W, Q]), tf.zeros([1, H, W, Q]))
    for i in range(3):
        with tf.variable_scope("conv_lstm", reuse=i > 0):
            outputs["hidden"], state = cell.call(fed[f"map{i}"], state)
    with tf.variable_scope("RNN"):
        lstm = tf.nn.rnn_cell.BasicLSTMCell(C, state_is_tuple=False)
        state = lstm.zero_state(1, tf.float32)
        for t in range(T):
            outputs[f"word{t}"], state = lstm(fed["vectors"][:, t], state)
    variables = tf.global_variables()
    drawn = [rng.normal(0, 0.5, v.shape.as_list()).astype(np.float32) for v in variables]
    with tf.Session() as session:
        for variable, value in zip(variables, drawn, strict=True):
            variable.load(value, session)
        found = session.run(outputs, {fed[name]: value for name, value in inputs.items()})
    weights = {v.name.removesuffix(":0"): x for v, x in zip(variables, drawn, strict=True)}
    np.savez_compressed(sys.argv[2], **weights, **inputs, **found)


if __name__ == "__main__":
    main()
