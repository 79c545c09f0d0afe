"""The pictures of the documentation are drawn from what the benchmarks keep, and anew they are the same."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


def loaded(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def texts(picture: Path) -> list[str]:
    return [text for element in ElementTree.parse(picture).iter() for text in [(element.text or "").strip()] if text]  # noqa: S314 - our own


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model, case and value is there."""
    estimate = loaded("tests/benchmarks/intervals.py", monkeypatch).Estimate
    pictures = loaded("docs/bench_picture.py", monkeypatch)
    names = (pictures.OTHER, pictures.OURS)
    accuracy = [
        {"configuration": name, "model": model, "step_ms": step, "right": 9, "total": 10, "low": 0.6, "high": 1.0}
        for model in ("threads", "asyncio")
        for name in names
        for step in (0.1, 1.0)
    ]
    cost = [
        {
            "case": case,
            "plain SDK": estimate(12.5, 12.0, 13.0)._asdict(),
            pictures.OTHER: estimate(5.25, 5.0, 5.5)._asdict(),
            pictures.OURS: estimate(-0.75, -1.0, 0.5)._asdict(),
        }
        for case in ("root span", "child span")
    ]
    for name, figures in (("accuracy", accuracy), ("cost", cost)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"python": "3.11.7", "figures": figures}))
    given = [f"--accuracy={tmp_path}/accuracy.json", f"--cost={tmp_path}/cost.json", f"--output={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["bench_picture.py", *given])
    pictures.main()
    assert {"threads", "asyncio", "0.1", "1"} <= set(texts(tmp_path / "accuracy.svg"))
    assert "asyncio, 0.1 ms, otel-profiling-distro: 90.0% of 10 (60.0% to 100.0%)" in texts(tmp_path / "accuracy.svg")
    rows = texts(tmp_path / "cost.svg")
    assert {"root span", "child span", "12.50 µs without profiling", "+5.25", "\N{MINUS SIGN}0.75"} <= set(rows)


def test_picture_of_one_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the documentation is what its program draws, in the reader's light or dark setting."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    loaded("docs/way_picture.py", monkeypatch).main(tmp_path / "sample-way.svg")
    drawn = (tmp_path / "sample-way.svg").read_text()
    assert drawn == (ROOT / "docs" / "sample-way.svg").read_text()
    assert "prefers-color-scheme: dark" in drawn
    assert "labels of alias 1: GET /a" in texts(tmp_path / "sample-way.svg")
