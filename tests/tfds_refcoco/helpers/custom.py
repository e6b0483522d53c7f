"""A custom.json for tests."""

import json

H, W = 30, 40
POLYGON = [2, 3, 12, 3, 12, 11, 2, 11]


def write(root, content):
    (root / "custom.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return root
