"""Serves an exported network over HTTP: send a picture and a sentence, get the mask as PNG.

    lts export runs/refcoco --format onnx --out exported
    python docs/serve_onnx.py exported 8080
    curl --data-binary @photo.jpg "localhost:8080/?text=man+on+the+left" > mask.png

It needs NumPy, onnxruntime and Pillow, and nothing of this project.
"""

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image, ImageOps

folder, port = Path(sys.argv[1]), int(sys.argv[2])
sys.path.insert(0, str(folder))
from loader import load  # noqa: E402 - the folder's own

segment = load(folder)
threshold = json.loads((folder / "preprocessing.json").read_bytes())["threshold"]
LARGEST = 20 * 2**20  # bytes of a picture


class Handler(BaseHTTPRequestHandler):
    """Answers POST /?text=SENTENCE with the picture as body."""

    def do_POST(self) -> None:
        """Sends the mask, 0 and 255 at the picture's size; or 400 and what is wrong."""
        try:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= LARGEST:
                raise ValueError(f"send a picture of at most {LARGEST} bytes")
            texts = parse_qs(urlsplit(self.path).query).get("text")
            if not texts:
                raise ValueError("say what to find: /?text=man+on+the+left")
            picture = ImageOps.exif_transpose(Image.open(io.BytesIO(self.rfile.read(length))))
            mask = segment(np.array(picture.convert("RGB")), texts[0]) > threshold
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            self.send_error(400, explain=str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        Image.fromarray(mask.astype(np.uint8) * 255).save(self.wfile, "png")


with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
