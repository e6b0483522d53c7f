"""Named intermediate maps of the locator, for visualization."""

from typing import Any

import jax
import jax.numpy as jnp

from lts_jax.models.network import Encoded, Network, Outputs, PreparedImage
from lts_jax.models.text_encoder import TextFeatures


def refer_with_maps(
    model: Network, variables: Any, image: Encoded | PreparedImage, text: TextFeatures
) -> tuple[Outputs, dict[str, jax.Array]]:
    """Runs `refer` and also returns all maps that the locator computes.

    Args:
      model: the network.
      variables: parameters and BatchNorm statistics.
      image: result of `encode_image` or `prepare`.
      text: result of `encode_text`.

    Returns:
      The outputs, and float32 maps by name, with N = H/8 · W/8 and rounds r from 1:
        `round{r}/heatmap`: `[B, H/8, W/8]`, probabilities.
        `round{r}/words` (word filter): `[B, T, H/8, W/8]`, the response to each word, zero at
          padding.
        `round{r}/self_attention` (transformer): `[B, heads, N, N]`, weights of each cell.
        `round{r}/cross_attention` (transformer): `[B, heads, N, 1]`, all ones, as the sentence is
          the only token.
      The dict is empty without a locator.
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
