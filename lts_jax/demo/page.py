"""The page, made by Gradio, and its server on this machine."""

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
_KEPT = 60, 1800  # seconds: how often files are looked at, and how old they may be
_WAITING = 20  # requests
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
    """Raises ConfigError if Gradio is not installed, or the port is taken or none."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the page needs Gradio: pip install 'lts_jax[demo]'")
    if not 0 < port < 65536:
        raise ConfigError(f"--port={port}: must be from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"--port={port}: cannot be used ({error.strerror}); name another one"
            ) from error


def serve(predictor: Predictor, title: str, port: int) -> None:
    """Serves the page until the process is interrupted, then deletes what was uploaded.

    Args:
      predictor: of the network.
      title: what the page calls it.
      port: of this machine; see `check_can_serve`.
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
                run_history=False,  # else the browser would keep the pictures
                footer_links=[],
                **how,
            )
            print(f"http://{HOST}:{port} - Ctrl-C ends it", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", flush=True)
        finally:
            page.close(verbose=False)


def _import_gradio() -> Any:
    os.environ.update(_SETTINGS)  # which it reads when it is imported
    import gradio

    return gradio


def _save(pictures: Pictures) -> list[tuple[str, str]]:
    """Saves pictures where the page finds them.

    Gradio writes an image that two users see to one file, twice: one of them may get half of it.
    A file that it is given is complete when it appears.
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
    """Returns the page, and what its `launch` needs to know of how it looks."""
    gr = _import_gradio()
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=_KEPT) as page:
        gr.Markdown(
            f"# {title}\nDrop a picture, and say what to find in it. It stays on this machine and "
            "is deleted after half an hour."
        )
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    type="filepath",
                    sources=["upload", "clipboard"],
                    label="Picture",
                    height=320,
                    buttons=[],
                    elem_id="picture",
                )
                # The file as it is: `answer` reads it, and says what is wrong with it.
                picture.preprocess = lambda payload: None if payload is None else payload.path
                lines = gr.Textbox(
                    label=f"What to find: a sentence a line, {MOST_SENTENCES} at most",
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
            label="Drawn examples",
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
