"""What the locator looked at, by name, to be drawn."""

from typing import Any

import jax
import jax.numpy as jnp

from lts_jax.models.network import Encoded, Network, Outputs, PreparedImage
from lts_jax.models.text_encoder import TextFeatures


def refer_with_maps(
    model: Network, variables: Any, image: Encoded | PreparedImage, text: TextFeatures
) -> tuple[Outputs, dict[str, jax.Array]]:
    """Does what `refer` does, and returns every map that the locator made on the way.

    Args:
      model: the network.
      variables: its parameters and BatchNorm statistics.
      image: from `encode_image` or `prepare`.
      text: from `encode_text`.

    Returns:
      The outputs, and float32 maps by name, N = H/8 · W/8, rounds r counted from 1:
      `round{r}/heatmap`, `[B, H/8, W/8]`, probabilities; of a word filter also
      `round{r}/words`, `[B, T, H/8, W/8]`, the response to each word, zero at padding; of a
      transformer also `round{r}/self_attention`, `[B, heads, N, N]`, where each cell looked, and
      `round{r}/cross_attention`, `[B, heads, N, 1]`, all ones, as the sentence is the only
      token. Empty without a locator.
    """
    outputs, seen = model.apply(
        variables, image, text, train=False, method="refer", mutable=["intermediates"]
    )
    maps: dict[str, jax.Array] = {}
    if outputs.heatmap is None:
        return outputs, maps
    sown = seen.get("intermediates", {}).get("locator", {})
    for i in range(outputs.heatmap.shape[1]):
        name, of_round = f"round{i + 1}", sown.get(f"round{i}", {})
        maps[f"{name}/heatmap"] = jax.nn.sigmoid(outputs.heatmap[:, i])
        if "words" in of_round:
            maps[f"{name}/words"] = of_round["words"][0].astype(jnp.float32)
        for attention, weights in of_round.get("layer", {}).items():
            maps[f"{name}/{attention}"] = weights["attention_weights"][0].astype(jnp.float32)
    return outputs, maps
