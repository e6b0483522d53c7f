from benchmarks import timing


def test_what_a_turn_displaced_is_not_timed(monkeypatch):
    clock = 0.0
    calls: list[str] = []

    def way(name: str, seconds: float):
        def call() -> int:
            nonlocal clock
            clock += seconds if calls[-1:] == [name] else 100.0
            calls.append(name)
            return len(calls)

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock)
    outputs, seconds = timing.alternate({"ours": way("ours", 1.0), "torch": way("torch", 2.0)}, 3)
    assert seconds == {"ours": [1.0] * 3, "torch": [2.0] * 3}
    rounds = ["ours", "torch", "torch", "ours", "ours", "torch"]  # each is first once
    assert calls == [name for name in rounds for _ in range(2)]
    assert outputs == {"ours": 9, "torch": 11}
