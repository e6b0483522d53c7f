"""The Gradio page and its local server."""

import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from lts_jax.demo.answers import MOST_LETTERS, MOST_SENTENCES, Pictures, answer
from lts_jax.demo.examples import draw_examples
from lts_jax.errors import ConfigError
from lts_jax.inference.predictor import Predictor

HOST = "127.0.0.1"
LARGEST_FILE = "64mb"
_KEPT = 60, 1800  # seconds: how often old files are deleted, and their maximum age
_WAITING = 20  # requests in the queue
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ALLOWED_PATHS": "",
}
_STYLE = """
#answers dt { font-weight: 600; overflow-wrap: anywhere }
#answers dd { margin: 0 0 12px; overflow-wrap: anywhere }
#answers p[role=alert] { color: #b91c1c; overflow-wrap: anywhere }
.dark #answers p[role=alert] { color: #f87171 }
#masks .grid-wrap { max-height: none }
"""


def check_can_serve(port: int) -> None:
    """Raises ConfigError if Gradio is not installed, or the port is invalid or in use."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the demo requires Gradio: pip install 'lts_jax[demo]'")
    if not 0 < port < 65536:
        raise ConfigError(f"--port={port} must be from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"--port={port} cannot be used ({error.strerror}): choose another port"
            ) from error


def serve(predictor: Predictor, title: str, port: int) -> None:
    """Serves the page until the process is interrupted, then deletes the uploaded files.

    Args:
      predictor: the network's predictor.
      title: title of the page.
      port: local port, see `check_can_serve`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="lts_demo_") as folder:
        examples = draw_examples(Path(folder))
        answer(predictor, *examples[0])  # compiles
        os.environ["GRADIO_TEMP_DIR"] = folder
        page, how = _make_page(predictor, title, examples)
        page.queue(max_size=_WAITING)
        try:
            page.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=LARGEST_FILE,
                ssr_mode=False,
                run_history=False,  # otherwise the browser would keep the images
                footer_links=[],
                **how,
            )
            print(f"http://{HOST}:{port} - press Ctrl-C to stop", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", flush=True)
        finally:
            page.close(verbose=False)


def _import_gradio() -> Any:
    os.environ.update(_SETTINGS)  # Gradio reads them on import
    import gradio

    return gradio


def _save(pictures: Pictures) -> list[tuple[str, str]]:
    """Saves images to Gradio's cache.

    Gradio itself writes an image that two users view twice to the same file, so that one of them
    may read an incomplete file. Files saved here appear in the cache atomically.
    """
    from gradio.processing_utils import save_file_to_cache

    saved, cache = [], os.environ["GRADIO_TEMP_DIR"]
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for number, (picture, caption) in enumerate(pictures):
            file = Path(folder) / f"{number}.jpg"
            picture.save(file, quality=90)
            saved.append((save_file_to_cache(file, cache), caption))
    return saved


def _make_page(
    predictor: Predictor, title: str, examples: list[list[str]]
) -> tuple[Any, dict[str, Any]]:
    """Returns the page and the arguments of `launch` that define its style."""
    gr = _import_gradio()
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=_KEPT) as page:
        gr.Markdown(
            f"# {title}\nDrop an image and type what to find in it. The image stays on this "
            "machine and is deleted after half an hour."
        )
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    type="filepath",
                    sources=["upload", "clipboard"],
                    label="Image",
                    height=320,
                    buttons=[],
                    elem_id="picture",
                )
                # Pass the uploaded file unchanged: `answer` reads it and reports errors.
                picture.preprocess = lambda payload: None if payload is None else payload.path
                lines = gr.Textbox(
                    label=f"What to find: one sentence per line, at most {MOST_SENTENCES}",
                    lines=3,
                    max_length=MOST_LETTERS,
                    elem_id="lines",
                )
                button = gr.Button("Find", variant="primary", elem_id="find")
            with gr.Column():
                masks = gr.Gallery(
                    label="Masks and heatmaps",
                    columns=2,
                    object_fit="contain",
                    interactive=False,
                    buttons=[],
                    elem_id="masks",
                )
                answers = gr.HTML(elem_id="answers", padding=False)
        drawn = gr.Dataset(
            components=[picture],
            samples=[[file] for file, _ in examples],
            type="index",
            label="Rendered examples",
            elem_id="drawn",
        )
        drawn.click(lambda i: examples[i], drawn, [picture, lines], api_name=False)

        def find(file: str | None, text: str) -> tuple[list[tuple[str, str]], str]:
            pictures, words = answer(predictor, file, text)
            return _save(pictures), words

        button.click(
            find,
            [picture, lines],
            [masks, answers],
            api_name="find",
        )
    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(font=fonts, font_mono=["monospace"])
    return page, {"theme": theme, "css": _STYLE}
