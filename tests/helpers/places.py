"""Where things stand in the repository."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
MODEL = ROOT / "models/telephone-en"
DEEP = ROOT / "models/telephone-en-deep"
CLIP = TESTS / "recordings/please-hold.flac"
SAID = "please hold while we try to connect you"
"""What is said in the recording."""
