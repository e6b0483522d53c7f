import json

from benchmarks.compiled import tables


def test_tables(tmp_path):
    train = {
        "compiled": True,
        "memory": {"peak": 2**34, "arguments": 2**30, "temporaries": 64 * 2**28},
        "operations": 64e9,
        "traffic": {"bytes_per_example": 1.5e9, "between_devices": 0},
        "model": {"seconds": 0.032},
    }
    result = {"device": "h100", "devices": 1, "batch": 64, "programs": {"train": train}}
    failed = result | {"programs": {"train": {"compiled": False, "error": "out of memory\n…"}}}
    for name, of in {"train/h100": result, "memory/lts": result, "variants/star": failed}.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir()
        path.write_text(json.dumps(of))
    tables.main([str(tmp_path)])
    text = (tmp_path / "tables.md").read_text()
    assert "| train/h100 | H100 SXM | 64 | 16,384 | 1 | 1,500 | 0 | 32.0 | 2,000 |" in text
    assert "| variants/star | H100 SXM | 64 | out of memory |" in text
    # 0.9 · 16 GiB minus 1 GiB for the state, at 0.25 GiB per sentence.
    assert "| lts | 256 | 53 |" in text
