"""Draws examples.jpg: what `photos` finds in three pictures of scikit-image, not trained on.

python docs/results/photos/examples.py    # from the root; needs `pip install scikit-image`

chelsea.png (Stéfan van der Walt) and coffee.png (Rachel Michetti) are CC0, astronaut.png (NASA) is
in the public domain.
"""

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image, ImageDraw

import lts_jax
from lts_jax.io.drawing import PREDICTION, overlay_mask
from tfds_refcoco.inspection import fonts

SENTENCES = {
    "astronaut": ["person", "woman in orange"],
    "coffee": ["cup", "spoon"],
    "chelsea": ["cat"],
}
HEIGHT, CAPTION = 260, 26

predictor = lts_jax.Predictor.from_pretrained("photos")
panels = []
for name, sentences in SENTENCES.items():
    picture = getattr(skimage.data, name)()
    for found in predictor(picture, sentences):
        overlay = overlay_mask(picture, found.mask, PREDICTION)
        width = round(picture.shape[1] * HEIGHT / picture.shape[0])
        small = cv2.resize(overlay, (width, HEIGHT), interpolation=cv2.INTER_AREA)
        panel = Image.new("RGB", (width, HEIGHT + CAPTION), "white")
        panel.paste(Image.fromarray(np.asarray(small, np.uint8)), (0, CAPTION))
        font, shown = fonts.choose(found.text, 16)
        ImageDraw.Draw(panel).text((4, 4), shown, fill="black", font=font)
        panels.append(panel)
sheet = Image.new("RGB", (sum(p.width + 8 for p in panels) - 8, HEIGHT + CAPTION), "white")
left = 0
for panel in panels:
    sheet.paste(panel, (left, 0))
    left += panel.width + 8
sheet.save(Path(__file__).with_name("examples.jpg"), quality=88)
